//! Loads the object and attaches its programs: natively where the driver can, else in the kernel's generic way.
//!
//! Attachments are links that live as long as this process holds them, or where `pins` keeps them.

use std::{error::Error as StdError, io};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapError},
    programs::{Program, ProgramError, Xdp, XdpMode},
};
use caps::{CapSet, Capability};
use edge_ebpf::{PENALTY_V4_MASK, PENALTY_V6_MASK, SourceV4Key, SourceV6Key, XDP_PROGRAM};
use tracing::{debug, info};

use super::pins::{self, Held, Pins};
use super::{Attachment, Error, XdpVariant};
use crate::penalty::{v4_mask, v6_mask};
use crate::settings::Penalty;

/// The kernel object, as `cargo xtask ebpf` built it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("EDGE_BPF_OBJECT"));

/// What loading takes: the calls themselves; programs that touch the network; and the verifier's full trust, without
/// which it refuses to add an offset that it knows as a range to a packet pointer.
const NEEDED: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];

/// Loads maps and programs; nothing is attached yet. `debug` lets the programs log. `pins`: where maps are kept.
pub(super) fn load(penalty: &Penalty, pins: Option<&Pins>, debug: bool) -> Result<Ebpf, Error> {
    check_capabilities()?;
    // Constants to the verifier: below the level, the logging code is not even there.
    let level: u8 = if debug { aya_log::Level::Debug as u8 } else { 0 };
    let v4_mask: SourceV4Key = v4_mask(penalty.ipv4_prefix).to_be_bytes();
    let v6_mask: SourceV6Key = v6_mask(penalty.ipv6_prefix).to_be_bytes();
    let mut loader = EbpfLoader::new();
    for name in pins.iter().flat_map(|_| pins::MAPS) {
        loader.map_pin_path(name, pins.map(|pins| pins.map(name)).unwrap_or_default());
    }
    let mut ebpf = loader
        .override_global(aya_log::LEVEL, &level, true)
        .override_global(PENALTY_V4_MASK, &v4_mask, true)
        .override_global(PENALTY_V6_MASK, &v6_mask, true)
        .load(OBJECT)
        .map_err(classify)?;
    for (_, program) in ebpf.programs_mut() {
        let loaded = match program {
            Program::Xdp(program) => program.load(),
            Program::SkReuseport(program) => program.load(),
            Program::SkLookup(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => continue,
        };
        loaded.map_err(|error| classify(error.into()))?;
    }
    Ok(ebpf)
}

/// Attaches the XDP program to an interface, in the place of one that was left there.
pub(super) fn attach(ebpf: &mut Ebpf, pins: Option<&Pins>, interface: &str) -> Result<(Attachment, Held), Error> {
    let program = xdp(ebpf)?;
    if let Some(adopted) = pins.and_then(|pins| pins.adopt(program, interface)) {
        return Ok(adopted);
    }
    let failed = |source| Error::Attach { interface: interface.to_owned(), source };
    // With EINVAL aya would try netlink, whose attachments outlive the process. That is the answer of kernels that know
    // no links; ours do, or they had refused a program with `frags`, which is the younger of the two.
    let (variant, id) = match program.attach(interface, XdpMode::Driver) {
        Ok(id) => {
            info!(interface, mode = "native", "kernel program attached");
            (XdpVariant::Native, id)
        }
        Err(error @ ProgramError::UnknownInterface { .. }) => return Err(failed(error)),
        Err(native) => {
            let id = program.attach(interface, XdpMode::Skb).map_err(failed)?;
            let reason = chain(&native);
            info!(interface, mode = "generic", reason, "kernel program attached; the driver has no native mode");
            (XdpVariant::Generic, id)
        }
    };
    let link = program.take_link(id).map_err(failed)?;
    let attachment = Attachment { interface: interface.to_owned(), variant };
    let held = match pins {
        Some(pins) => pins.keep(&attachment, link)?,
        None => Held::of(link),
    };
    Ok((attachment, held))
}

/// Takes a map out of the object, as the type the ABI says it is.
pub(super) fn take_map<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, Error> {
    let map = ebpf.take_map(name).ok_or(Error::Object { name })?;
    Ok(T::try_from(map)?)
}

/// The program for interfaces.
pub(super) fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let program = ebpf.program_mut(XDP_PROGRAM).ok_or(Error::Object { name: XDP_PROGRAM })?;
    program.try_into().map_err(|_| Error::Object { name: XDP_PROGRAM })
}

fn check_capabilities() -> Result<(), Error> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    // It stands for the others (capabilities(7)), but before Linux 6.9 not for this one.
    let stands_in = |need: Capability| need != Capability::CAP_NET_ADMIN && has(Capability::CAP_SYS_ADMIN);
    let missing: Vec<String> =
        NEEDED.iter().filter(|need| !has(**need) && !stands_in(**need)).map(ToString::to_string).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Capabilities { missing: missing.join(", ") }) }
}

/// Tells apart what the operator can do something about.
fn classify(error: aya::EbpfError) -> Error {
    if let aya::EbpfError::ProgramError(ProgramError::LoadError { verifier_log, .. }) = &error
        && let log = verifier_log.to_string()
        && let Some(reason) = verifier_reason(&log)
    {
        debug!(log, "the verifier's whole answer");
        return Error::Verifier { reason: reason.to_owned() };
    }
    match errno(&error) {
        Some(nix::libc::ENOSYS) => Error::NoBpf,
        Some(nix::libc::EPERM | nix::libc::EACCES) => Error::Forbidden,
        _ => Error::Load { source: Box::new(error) },
    }
}

/// The line of the verifier's log that says why: the last one before its statistics.
fn verifier_reason(log: &str) -> Option<&str> {
    let statistics = ["verification time", "stack depth", "processed "];
    let is_reason = |line: &&str| !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start));
    log.lines().map(str::trim).rfind(is_reason)
}

fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        cause = error.source();
    }
    None
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_error(code: i32) -> aya::EbpfError {
        let io_error = io::Error::from_raw_os_error(code);
        MapError::CreateError { name: "DENY_V4".to_owned(), io_error }.into()
    }

    #[test]
    fn errors_name_what_can_be_done() {
        let check = |code: i32, expected: &str| assert_eq!(chain(&classify(map_error(code))), expected);
        check(nix::libc::ENOSYS, "this kernel has no BPF");
        check(nix::libc::EPERM, "the kernel forbids loading BPF programs here, as in a container or a user namespace");
        check(
            nix::libc::ENOMEM,
            "loading the kernel programs: map error: failed to create map `DENY_V4`: \
             Cannot allocate memory (os error 12)",
        );
    }

    #[test]
    fn the_verifier_is_quoted_with_its_reason() {
        let check = |log: &str, expected: Option<&str>| assert_eq!(verifier_reason(log), expected);
        check("", None);
        check(
            "41: (0f) r3 += r1\nR1 is wrong\nverification time 541 usec\nstack depth 40\nprocessed 57 insns\n",
            Some("R1 is wrong"),
        );
        check(
            "BPF program is too large. Processed 1000001 insn\n",
            Some("BPF program is too large. Processed 1000001 insn"),
        );
    }
}
