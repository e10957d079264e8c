//! Reads one request head, eight bytes at a time, and finds `Host` and the bearer token in it.
//!
//! It knows far less than userspace's parser and is sure of what it knows: a head is either exactly what it
//! understands, printable ASCII in CRLF lines (RFC 9112, 2.2), or not judged.
//!
//! All state lies in a map. The verifier takes what it reads from a map for any number, so that one step is like the
//! next; of state on the stack it would follow each value through each step. Steps are `bpf_loop` callbacks. No two
//! programs use the map at once: they run with softirqs off, one at a time on a CPU.

use core::{arch::asm, ffi::c_void, ptr};

use aya_ebpf::helpers::generated::bpf_loop;
use edge_ebpf::rejection::{FIELDS, HEAD_BYTES, HOST_BYTES};

use crate::{
    bytes::{
        CASE, HIGH, ONES, begins, begins_in_any_case, equal, first, lower, not_name, not_target, token68, unprintable,
    },
    siphash::SipHash,
};

/// Any position in a head fits, and any that a step reaches beyond; a power of two, so that a mask bounds it.
const ROOM_BYTES: usize = 2 * HEAD_BYTES as usize;
const _: () = assert!(ROOM_BYTES.is_power_of_two());
const WORD_BYTES: u64 = 8;
/// How many words of a value one step reads.
const STRIDE_WORDS: u64 = 4;
/// Each step takes at least eight bytes, or ends the target, a name, a value or the head.
const STEPS: u32 = HEAD_BYTES / WORD_BYTES as u32 + 2 * FIELDS + 4;

/// Where one request is read: a slot of a per-CPU map.
#[repr(C)]
pub(crate) struct Scratch {
    room: [u8; ROOM_BYTES],
    /// A load at the last position ends here.
    slack: [u8; WORD_BYTES as usize],
    scan: Scan,
    token: TokenHash,
    host: HostHash,
    found: Found,
}

/// Positions count from the head's first byte.
#[repr(C)]
struct Scan {
    position: u64,
    /// Where the payload ends.
    end: u64,
    /// Where the line begins.
    line: u64,
    /// Where the head ends; 0 until found.
    head_end: u64,
    /// 0 until found, as for the others below.
    host: u64,
    host_end: u64,
    token: u64,
    token_end: u64,
    part: u32,
    /// Which field's value is being read.
    field: u32,
    fields: u32,
    /// 1 where the client wants the connection to end.
    closes: u32,
}

/// [`Scan::part`]: integers, since a map may hold any.
const TARGET: u32 = 0;
const NAME: u32 = 1;
const VALUE: u32 = 2;

/// [`Scan::field`].
const OTHER: u32 = 0;
const HOST: u32 = 1;
const TOKEN: u32 = 2;

#[repr(C)]
struct TokenHash {
    hash: SipHash,
    position: u64,
    /// Not zero once a byte was none of a token's.
    bad: u64,
    /// The highest bit of the lowest byte, if the last byte was `=`: only more of them may follow.
    padding: u64,
}

#[repr(C)]
struct HostHash {
    hash: SipHash,
    position: u64,
}

/// What a rejected token is looked up by.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) token_hash: [u64; 2],
    pub(crate) host_hash: u64,
    /// Not 0 where the client wants the connection to end.
    pub(crate) closes: u64,
}

/// A callback's context must lie on the stack.
#[repr(C)]
struct Context {
    scratch: *mut Scratch,
}

type Step = unsafe extern "C" fn(u32, *mut Context) -> i64;
const CONTINUE: i64 = 0;
const STOP: i64 = 1;

impl Scratch {
    /// Where the payload is to be copied.
    #[inline(always)]
    pub(crate) fn room(this: *mut Self) -> *mut c_void {
        this.cast()
    }
}

/// Hashes host and token of a payload of this length, already in its room, if it is exactly one head that is understood.
#[inline(always)]
pub(crate) fn judge(scratch: *mut Scratch, payload_bytes: u32, key: *const [u64; 2]) -> Option<Found> {
    // SAFETY: a map's value, which this program alone uses now.
    find(scratch, payload_bytes, key).then(|| unsafe { (*scratch).found })
}

/// The same, with what it finds left in the map. A function of its own, as all together would need more stack than
/// there is.
#[inline(never)]
fn find(scratch: *mut Scratch, payload_bytes: u32, key: *const [u64; 2]) -> bool {
    // SAFETY: a map's values; this program alone uses the scratch now.
    let (found, key) = unsafe { (&mut (*scratch).found, *key) };
    hash(scratch, payload_bytes, key).is_some_and(|hashes| {
        *found = hashes;
        true
    })
}

#[inline(always)]
fn hash(scratch: *mut Scratch, payload_bytes: u32, key: [u64; 2]) -> Option<Found> {
    let end = u64::from(payload_bytes);
    let target = target_start(word(scratch, 0))?;
    // SAFETY: a map's value, which this program alone uses now.
    let scan = unsafe { &mut (*scratch).scan };
    *scan = Scan {
        position: target,
        end,
        line: 0,
        head_end: 0,
        host: 0,
        host_end: 0,
        token: 0,
        token_end: 0,
        part: TARGET,
        field: OTHER,
        fields: 0,
        closes: 0,
    };
    run(scratch, STEPS, scan_step);
    // Behind the payload lie another request's bytes. Steps only go forward, so they took none of them if this holds.
    if scan.head_end != end {
        return None;
    }
    let host_bytes = scan.host_end.wrapping_sub(scan.host);
    let token_bytes = scan.token_end.wrapping_sub(scan.token);
    if scan.host == 0 || scan.token == 0 || host_bytes > u64::from(HOST_BYTES) || token_bytes > u64::from(HEAD_BYTES) {
        return None;
    }
    let token_hash = hash_token(scratch, scan.token, token_bytes, key)?;
    let host_hash = hash_host(scratch, scan.host, host_bytes, key);
    Some(Found { token_hash, host_hash, closes: u64::from(scan.closes) })
}

/// Calls a step until it stops, at most so many times.
#[inline(always)]
fn run(scratch: *mut Scratch, times: u32, step: Step) {
    let mut context = Context { scratch };
    // SAFETY: the callback's type is the one the helper calls, and its context outlives the call.
    unsafe { bpf_loop(times, step as *mut c_void, ptr::from_mut(&mut context).cast(), 0) };
}

/// The eight bytes at this position, the first one lowest.
#[inline(always)]
fn word(scratch: *const Scratch, position: u64) -> u64 {
    let word: u64;
    // SAFETY: the mask keeps the position in the room, and the slack behind it takes the rest of the word. In assembly,
    // since the compiler would drop a mask that it finds needless, which the verifier does not; and it would load
    // eight single bytes, as it knows no unaligned load.
    unsafe {
        asm!(
            "{at} &= {mask}",
            "{at} += {base}",
            "{word} = *(u64 *)({at} + 0)",
            mask = const ROOM_BYTES - 1,
            at = inout(reg) position => _,
            base = in(reg) scratch,
            word = lateout(reg) word,
            options(readonly, nostack),
        );
    }
    word
}

const CRLF: &[u8] = b"\r\n";

/// Where the target begins: methods whose answer to a rejected token is the same in userspace, and only origin form
/// (RFC 9112, 3.2.1). An answer to HEAD has no body, and OPTIONS may be a preflight.
#[inline(always)]
fn target_start(head: u64) -> Option<u64> {
    if begins(head, b"GET /") || begins(head, b"PUT /") {
        Some(4)
    } else if begins(head, b"POST /") {
        Some(5)
    } else if begins(head, b"PATCH /") {
        Some(6)
    } else if begins(head, b"DELETE /") {
        Some(7)
    } else {
        None
    }
}

#[inline(never)]
unsafe extern "C" fn scan_step(_index: u32, context: *mut Context) -> i64 {
    // SAFETY: the context that `run` gave, and the map's value that it names, which nothing else refers to now.
    let scratch = unsafe { (*context).scratch };
    match advance(scratch) {
        Some(()) => CONTINUE,
        None => STOP,
    }
}

/// Takes one step; nothing where the head ends or is not understood.
#[inline(always)]
fn advance(scratch: *mut Scratch) -> Option<()> {
    // SAFETY: as above.
    let scan = unsafe { &mut (*scratch).scan };
    if scan.position >= scan.end {
        return None;
    }
    match scan.part {
        TARGET => target(scratch, scan),
        NAME => name(scratch, scan),
        _ => value(scratch, scan),
    }
}

#[inline(always)]
fn target(scratch: *const Scratch, scan: &mut Scan) -> Option<()> {
    const VERSION: &[u8] = b" HTTP/1.";
    const MINOR: &[u8] = b"1\r\n";
    let stop = not_target(word(scratch, scan.position));
    if stop == 0 {
        scan.position += WORD_BYTES;
        return Some(());
    }
    let at = scan.position + first(stop);
    if !begins(word(scratch, at), VERSION) || !begins(word(scratch, at + VERSION.len() as u64), MINOR) {
        return None;
    }
    scan.line = at + (VERSION.len() + MINOR.len()) as u64;
    scan.position = scan.line;
    scan.part = NAME;
    Some(())
}

#[inline(always)]
fn name(scratch: *const Scratch, scan: &mut Scan) -> Option<()> {
    let at = scan.position;
    let bytes = word(scratch, at);
    if at == scan.line && begins(bytes, CRLF) {
        scan.head_end = at + CRLF.len() as u64;
        return None;
    }
    let stop = not_name(bytes);
    if stop == 0 {
        scan.position = at + WORD_BYTES;
        return Some(());
    }
    let colon = at + first(stop);
    // So neither an empty name, nor space before the colon, nor a folded line, which begins with space (RFC 9112, 5.2).
    if colon == scan.line || !begins(word(scratch, colon), b":") {
        return None;
    }
    scan.field = field(scratch, scan, colon)?;
    scan.position = colon + 1;
    scan.part = VALUE;
    Some(())
}

/// Which field this is; nothing for those that make a head more than a plain one.
#[inline(always)]
fn field(scratch: *const Scratch, scan: &mut Scan, colon: u64) -> Option<u32> {
    let line = scan.line;
    let first = word(scratch, line) | CASE;
    let second = word(scratch, line + WORD_BYTES) | CASE;
    let value = colon + 1;
    // Names hold letters, digits, `-` and `_` alone here, which stay distinct with this bit set.
    match colon - line {
        4 if begins(first, b"host") => {
            // One space and then something: what userspace would cut off is not judged.
            let around = word(scratch, value);
            if scan.host != 0 || !begins(around, b" ") || begins(around, b"  ") || begins(around >> 8, CRLF) {
                return None;
            }
            scan.host = value + 1;
            Some(HOST)
        }
        6 if begins(first, b"expect") => None,
        7 if begins(first, b"upgrade") => None,
        10 if begins(first, b"connecti") && begins(second, b"on") => {
            let (option, rest) = (word(scratch, value), word(scratch, value + WORD_BYTES));
            let keep_alive = begins_in_any_case(option, b" keep-al") && begins_in_any_case(rest, b"ive\r\n");
            if begins_in_any_case(option, b" close\r\n") {
                scan.closes = 1;
                return Some(OTHER);
            }
            keep_alive.then_some(OTHER)
        }
        13 if begins(first, b"authoriz") && begins(second, b"ation") => {
            const SCHEME: &[u8] = b" bearer ";
            if scan.token != 0 || !begins_in_any_case(word(scratch, value), SCHEME) {
                return None;
            }
            scan.token = value + SCHEME.len() as u64;
            Some(TOKEN)
        }
        14 if begins(first, b"content-") && begins(second, b"length") => None,
        17 if begins(first, b"transfer") && begins(second, b"-encodin") => None,
        _ => Some(OTHER),
    }
}

#[inline(always)]
fn value(scratch: *const Scratch, scan: &mut Scan) -> Option<()> {
    let mut at = scan.position;
    let mut stop = 0;
    for _ in 0..STRIDE_WORDS {
        stop = unprintable(word(scratch, at));
        if stop != 0 {
            break;
        }
        at += WORD_BYTES;
    }
    if stop == 0 {
        scan.position = at;
        return Some(());
    }
    let end = at + first(stop);
    if !begins(word(scratch, end), CRLF) {
        return None;
    }
    match scan.field {
        HOST if begins(word(scratch, end - 1), b" ") => return None,
        HOST => scan.host_end = end,
        TOKEN => scan.token_end = end,
        _ => {}
    }
    scan.fields += 1;
    if scan.fields > FIELDS {
        return None;
    }
    scan.line = end + CRLF.len() as u64;
    scan.position = scan.line;
    scan.part = NAME;
    Some(())
}

/// The hash of a token, if it is one.
#[inline(always)]
fn hash_token(scratch: *mut Scratch, start: u64, bytes: u64, key: [u64; 2]) -> Option<[u64; 2]> {
    // SAFETY: as in `judge`.
    let token = unsafe { &mut (*scratch).token };
    *token = TokenHash { hash: SipHash::new(key), position: start, bad: 0, padding: 0 };
    if bytes == 0 || begins(word(scratch, start), b"=") {
        return None;
    }
    run(scratch, (bytes / (STRIDE_WORDS * WORD_BYTES)) as u32, token_step::<STRIDE_WORDS>);
    run(scratch, (bytes / WORD_BYTES % STRIDE_WORDS) as u32, token_step::<1>);
    let kept = rest_mask(bytes);
    let rest = word(scratch, token.position) & kept;
    // `=` may follow anything.
    token.check(rest | (ONES * b'=' as u64) & !kept);
    (token.bad == 0).then_some(token.hash.finish(rest, bytes))
}

/// The bits of a last word that is not full.
#[inline(always)]
const fn rest_mask(bytes: u64) -> u64 {
    (1 << (bytes % WORD_BYTES * 8)) - 1
}

impl TokenHash {
    #[inline(always)]
    fn check(&mut self, word: u64) {
        let padding = equal(word & !HIGH, b'=');
        let token = token68(word & !HIGH);
        let behind_padding = padding << 8 | self.padding;
        self.bad |= (word | !(token | padding) | behind_padding & token) & HIGH;
        self.padding = padding >> 56;
    }
}

#[inline(never)]
unsafe extern "C" fn token_step<const WORDS: u64>(_index: u32, context: *mut Context) -> i64 {
    // SAFETY: as in `scan_step`.
    let (scratch, token) = unsafe { ((*context).scratch, &mut (*(*context).scratch).token) };
    for _ in 0..WORDS {
        let word = word(scratch, token.position);
        token.check(word);
        token.hash.word(word);
        token.position += WORD_BYTES;
    }
    CONTINUE
}

/// The hash of a host in lower case.
#[inline(always)]
fn hash_host(scratch: *mut Scratch, start: u64, bytes: u64, key: [u64; 2]) -> u64 {
    // SAFETY: as in `judge`.
    let host = unsafe { &mut (*scratch).host };
    *host = HostHash { hash: SipHash::new(key), position: start };
    run(scratch, (bytes / WORD_BYTES) as u32, host_step);
    let rest = lower(word(scratch, host.position) & rest_mask(bytes));
    host.hash.finish(rest, bytes)[0]
}

#[inline(never)]
unsafe extern "C" fn host_step(_index: u32, context: *mut Context) -> i64 {
    // SAFETY: as in `scan_step`.
    let (scratch, host) = unsafe { ((*context).scratch, &mut (*(*context).scratch).host) };
    host.hash.word(lower(word(scratch, host.position)));
    host.position += WORD_BYTES;
    CONTINUE
}
