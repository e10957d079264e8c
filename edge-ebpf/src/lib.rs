//! The ABI between the kernel programs and userspace.
