//! Which listener a connection to a virtual address belongs to: by the longest prefix of its address and the ports of
//! the listeners there. What belongs to none goes on to the kernel's own look-up.

use core::ptr::read_volatile;

use aya_ebpf::{maps::lpm_trie::Key, programs::SkLookupContext};
use edge_ebpf::{SourceV4Key, SourceV6Key, VIP_LISTENERS_PER_PREFIX, VipCounter, VipEntry, port_bit, vip_port_word};

use crate::{VIP_COUNTERS, VIP_PORTS, VIP_SOCKETS, VIPS_V4, VIPS_V6};

/// The look-up goes on, with the socket that was assigned or without.
const SK_PASS: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const TCP: u32 = 6;

/// Assigns a socket where the address is virtual.
#[inline(always)]
pub(crate) fn assign(ctx: &SkLookupContext) -> u32 {
    // SAFETY: the context of this look-up; the verifier checks each field.
    let (family, protocol, port) = unsafe { ((*ctx.lookup).family, (*ctx.lookup).protocol, (*ctx.lookup).local_port) };
    // SAFETY: as above; network byte order. One by one, at fixed offsets: the verifier wants no other arithmetic.
    let word = |index: usize| unsafe { read_volatile(&raw const (*ctx.lookup).local_ip6[index]) };
    if protocol != TCP {
        return SK_PASS;
    }
    let entry = match family {
        AF_INET => {
            // SAFETY: as above.
            let address: SourceV4Key = unsafe { read_volatile(&raw const (*ctx.lookup).local_ip4) }.to_ne_bytes();
            VIPS_V4.get(Key::new(32, address))
        }
        AF_INET6 => {
            let address = v6_bytes(word(0), word(1), word(2), word(3));
            VIPS_V6.get(Key::new(128, address))
        }
        _ => return SK_PASS,
    };
    let Some(entry) = entry else { return SK_PASS };
    let Some(listener) = listener(entry, port as u16) else { return SK_PASS };
    let assigned = VIP_SOCKETS.redirect_sk_lookup(ctx, listener, 0).is_ok();
    count(if assigned { VipCounter::Assigned } else { VipCounter::NoSocket });
    SK_PASS
}

/// The first listener of the prefix that has this port.
#[inline(always)]
fn listener(entry: &VipEntry, port: u16) -> Option<u32> {
    for place in 0..VIP_LISTENERS_PER_PREFIX {
        if place as u32 >= entry.count {
            return None;
        }
        let listener = u32::from(entry.listeners[place]);
        if VIP_PORTS.get(vip_port_word(listener, port)).is_some_and(|word| word & port_bit(port) != 0) {
            return Some(listener);
        }
    }
    None
}

#[inline(always)]
fn v6_bytes(a: u32, b: u32, c: u32, d: u32) -> SourceV6Key {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.to_ne_bytes(), b.to_ne_bytes());
    let ([c0, c1, c2, c3], [d0, d1, d2, d3]) = (c.to_ne_bytes(), d.to_ne_bytes());
    [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3]
}

#[inline(always)]
fn count(counter: VipCounter) {
    if let Some(slot) = VIP_COUNTERS.get_ptr_mut(counter.index()) {
        // SAFETY: this CPU's slot, and a program is neither migrated nor re-entered while it runs on one.
        unsafe { *slot += 1 }
    }
}
