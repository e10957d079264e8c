//! Nonces without state: each is the MAC of a slot of time, half as long as a proof's lifetime. The current and the
//! last one are accepted, so that a nonce is good for between half a lifetime and a whole one.

use super::Now;
use crate::crypto::{MacKey, constant_time_eq};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The nonce of the current slot.
pub(super) fn give(key: &MacKey, lifetime_ms: i64, now: Now) -> String {
    of_slot(key, lifetime_ms, slot(lifetime_ms, now))
}

/// Whether a nonce is the last slot's and not the current one's; nothing for any other text.
pub(super) fn is_ageing(key: &MacKey, nonce: &str, lifetime_ms: i64, now: Now) -> Option<bool> {
    let slot = slot(lifetime_ms, now);
    let is = |slot| constant_time_eq(nonce.as_bytes(), of_slot(key, lifetime_ms, slot).as_bytes());
    if is(slot) { Some(false) } else { is(slot - 1).then_some(true) }
}

fn slot_ms(lifetime_ms: i64) -> i64 {
    (lifetime_ms / 2).max(1)
}

fn slot(lifetime_ms: i64, now: Now) -> i64 {
    now.unix_ms.div_euclid(slot_ms(lifetime_ms))
}

/// The length goes in too: slots of one length say nothing about those of another.
fn of_slot(key: &MacKey, lifetime_ms: i64, slot: i64) -> String {
    let mac = key.mac(&[slot_ms(lifetime_ms).to_be_bytes(), slot.to_be_bytes()].concat());
    URL_SAFE_NO_PAD.encode(&mac[..18])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_in_its_slot_and_the_next() {
        let (key, other) = (MacKey::new(b"key"), MacKey::new(b"other"));
        let at = |unix_ms| Now { unix_ms };
        let nonce = give(&key, 10_000, at(1_000_000_000));
        for (unix_ms, expected) in [
            (1_000_000_000, Some(false)),
            (1_000_004_999, Some(false)),
            (1_000_005_000, Some(true)),
            (1_000_009_999, Some(true)),
            (1_000_010_000, None),
            (999_999_999, None),
        ] {
            assert_eq!(is_ageing(&key, &nonce, 10_000, at(unix_ms)), expected, "{unix_ms}");
        }
        assert_eq!(is_ageing(&other, &nonce, 10_000, at(1_000_000_000)), None);
        assert_eq!(is_ageing(&key, &nonce, 20_000, at(1_000_000_000)), None, "another lifetime's slots");
        for wrong in ["", &nonce[1..], &format!("{nonce}A"), &nonce.to_lowercase()] {
            assert_eq!(is_ageing(&key, wrong, 10_000, at(1_000_000_000)), None, "{wrong}");
        }
    }
}
