//! What TCP says of a connection (`TCP_INFO`, tcp(7)).

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt::GetStruct};
use nix::{getsockopt_impl, libc};

/// The part of `struct tcp_info` (linux/tcp.h) that is asked for: later fields are cut off.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TcpInfo {
    start: [u32; 6],
    unacked: u32,
    middle: [u32; 29],
    notsent_bytes: u32,
    end: [u32; 19],
    rcv_ooopack: u32,
}
const _: () = assert!(std::mem::offset_of!(TcpInfo, notsent_bytes) == 144);
const _: () = assert!(std::mem::offset_of!(TcpInfo, rcv_ooopack) == 224);

#[derive(Clone, Copy)]
struct Info;
getsockopt_impl!(Info, libc::IPPROTO_TCP, libc::TCP_INFO, TcpInfo, GetStruct<TcpInfo>);

impl TcpInfo {
    /// Of a TCP socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        Ok(getsockopt(socket, Info)?)
    }

    /// Whether the peer has acknowledged everything, an end of ours included.
    pub fn is_acknowledged(&self) -> bool {
        self.unacked == 0 && self.notsent_bytes == 0
    }

    /// What it has not, to see whether it goes on.
    pub fn open(&self) -> (u32, u32) {
        (self.unacked, self.notsent_bytes)
    }

    /// Whether no byte ever came before an earlier one.
    pub fn came_in_order(&self) -> bool {
        self.rcv_ooopack == 0
    }
}
