//! Messages and their wire forms: `Head` for both protocols, our own HTTP/1, HTTP/2 by `h2`.

pub mod buffer;
pub mod h1;
pub mod head;
pub mod io;
