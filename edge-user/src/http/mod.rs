//! Messages and their wire forms: `Head` for both protocols, our own HTTP/1, HTTP/2 by `h2`.

pub mod buffer;
pub mod downstream;
pub mod h1;
pub mod h2;
pub mod h2_client;
pub mod h2_frames;
pub mod head;
pub mod io;
mod known;
pub mod tcp_info;
pub mod tunnel;
pub mod websocket;
