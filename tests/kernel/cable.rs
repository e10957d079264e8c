//! A cable between two hosts that loses, repeats and reorders TCP segments, whatever kernel it runs on: frames go from one
//! interface to the other by packet sockets, with what devices know of their checksums and segmentation.

use std::{
    io::{self, Read as _, Write as _},
    mem::{MaybeUninit, size_of},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    libc,
    net::if_::if_nametoindex,
    setsockopt_impl,
    sys::socket::{setsockopt, sockopt::SetStruct},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::namespace::Namespace;
use crate::reject_fuzz::Random;

/// A frame may be a super-frame of a whole window.
const FRAME_BYTES: usize = 128 * 1024;
/// `struct virtio_net_hdr` (linux/virtio_net.h) goes before each frame.
const HEADER_BYTES: usize = 10;

#[derive(Clone)]
struct WithHeader;
setsockopt_impl!(WithHeader, libc::SOL_PACKET, libc::PACKET_VNET_HDR, i32, SetStruct<'_, i32>);
#[derive(Clone)]
struct OnlyArriving;
setsockopt_impl!(OnlyArriving, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, i32, SetStruct<'_, i32>);

/// What happens to segments, each in so many of a thousand, and how many it happened to.
#[derive(Default)]
pub(crate) struct Weather {
    pub(crate) lost: AtomicU32,
    pub(crate) repeated: AtomicU32,
    pub(crate) late: AtomicU32,
    pub(crate) struck: AtomicU64,
}

/// The cable; dropping it cuts it.
pub(crate) struct Cable {
    pub(crate) weather: Arc<Weather>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Where its ends are.
    _places: [Namespace; 2],
}

impl Cable {
    /// Joins the interfaces of this name, one in each namespace. Without weather at first.
    pub(crate) fn new(places: [Namespace; 2], interface: &str) -> Self {
        let ends = places.each_ref().map(|place| place.run(|| open(interface).unwrap()));
        let (weather, ended) = (Arc::new(Weather::default()), Arc::new(AtomicBool::new(false)));
        let threads = [(0, 1), (1, 0)]
            .into_iter()
            .map(|(from, to)| {
                let (from, to) = (ends[from].try_clone().unwrap(), ends[to].try_clone().unwrap());
                let (weather, ended) = (weather.clone(), ended.clone());
                thread::spawn(move || carry(from, to, &weather, &ended))
            })
            .collect();
        Self { weather, ended, threads, _places: places }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn open(interface: &str) -> io::Result<Socket> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(all))))?;
    let index = if_nametoindex(interface)?;
    // SAFETY: a link-layer address is written whole into room for any address, and its length is given.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let mut link: libc::sockaddr_ll = MaybeUninit::zeroed().assume_init();
            link.sll_family = libc::AF_PACKET as u16;
            link.sll_protocol = all;
            link.sll_ifindex = index as i32;
            storage.cast::<libc::sockaddr_ll>().write(link);
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    setsockopt(&socket, WithHeader, &1)?;
    setsockopt(&socket, OnlyArriving, &1)?;
    socket.bind(&address)?;
    socket.set_recv_buffer_size(8 << 20)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

fn carry(mut from: Socket, mut to: Socket, weather: &Weather, ended: &AtomicBool) {
    let mut random = Random::new(7);
    let mut frame = vec![0; HEADER_BYTES + FRAME_BYTES];
    let mut late: Option<Vec<u8>> = None;
    while !ended.load(Ordering::Relaxed) {
        let Ok(length) = from.read(&mut frame) else {
            // Nothing came for a while: what is late is not late for ever.
            if let Some(late) = late.take() {
                let _ = to.write(&late);
            }
            continue;
        };
        let frame = &frame[..length];
        let mut strikes = |chance: &AtomicU32| {
            let strikes =
                is_tcp(&frame[HEADER_BYTES..]) && random.below(1000) < chance.load(Ordering::Relaxed) as usize;
            weather.struck.fetch_add(strikes.into(), Ordering::Relaxed);
            strikes
        };
        if strikes(&weather.lost) {
            continue;
        }
        if late.is_none() && strikes(&weather.late) {
            late = Some(frame.to_vec());
            continue;
        }
        // A full queue loses frames as cables do.
        let _ = to.write(frame);
        if strikes(&weather.repeated) {
            let _ = to.write(frame);
        }
        if let Some(late) = late.take() {
            let _ = to.write(&late);
        }
    }
}

fn is_tcp(frame: &[u8]) -> bool {
    const TCP: u8 = 6;
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == Some(&TCP),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&TCP),
        _ => false,
    }
}
