//! Whose turn it is in round-robin: a wheel on which each peer stands as often as its weight says, evenly spread.

/// The turns of one revolution, as indices of `weights`. Exact where the weights, divided by what they have in common,
/// add up to at most `slots`; else as near as `slots` points allow, with at least one for each.
pub(super) fn wheel(weights: &[u32], slots: u32) -> Box<[u16]> {
    let divisor = u64::from(weights.iter().copied().fold(0, gcd).max(1));
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let points = |weight: u32| match total / divisor <= u64::from(slots) {
        true => u64::from(weight) / divisor,
        false => ((u64::from(weight) * u64::from(slots) + total / 2) / total).max(1),
    };
    let mut turns = Vec::new();
    for (index, weight) in weights.iter().enumerate() {
        // Point j of k stands in the middle of the j-th of k equal arcs.
        let count = points(*weight);
        turns.extend((0..count).map(|point| (((2 * point + 1) << 40) / (2 * count), index as u16)));
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, index)| index).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(wheel: &[u16], peers: usize) -> Vec<usize> {
        (0..peers).map(|peer| wheel.iter().filter(|index| usize::from(**index) == peer).count()).collect()
    }

    #[test]
    fn weights_are_kept_exactly_and_spread() {
        for (weights, slots, expected) in [
            (&[100, 100, 100][..], 10_000, "0 1 2"),
            (&[5, 1, 1], 10, "0 0 0 1 2 0 0"),
            (&[200, 100], 10_000, "0 1 0"),
            (&[65535], 10, "0"),
            (&[], 10, ""),
            // More than the slots can tell apart: the small ones keep their point.
            (&[60_000, 1, 1], 10, "0 0 0 0 0 1 2 0 0 0 0 0"),
        ] {
            let turns: Vec<_> = wheel(weights, slots).iter().map(u16::to_string).collect();
            assert_eq!(turns.join(" "), expected, "{weights:?} {slots}");
        }
    }

    proptest! {
        #[test]
        fn a_revolution_is_exact(weights in prop::collection::vec(1_u32..200, 1..20)) {
            let wheel = wheel(&weights, 65_536);
            let divisor = weights.iter().copied().fold(0, gcd);
            let expected: Vec<_> = weights.iter().map(|weight| (weight / divisor) as usize).collect();
            prop_assert_eq!(counts(&wheel, weights.len()), expected);
        }

        /// In any stretch a peer has its share, to one turn on either side of each end.
        #[test]
        fn turns_are_spread(weights in prop::collection::vec(1_u32..50, 1..8), start in 0_usize..400, len in 1_usize..400) {
            let wheel = wheel(&weights, 65_536);
            let (start, len) = (start % wheel.len(), len.min(wheel.len()));
            let stretch: Vec<_> = (start..start + len).map(|turn| wheel[turn % wheel.len()]).collect();
            let total: u32 = weights.iter().sum();
            for (peer, count) in counts(&stretch, weights.len()).into_iter().enumerate() {
                let share = f64::from(weights[peer]) * len as f64 / f64::from(total);
                // The others' points between two of one peer are off by half a point each, at most.
                let slack = 1.0 + weights.len() as f64 * f64::from(weights[peer]) / f64::from(total).max(1.0);
                prop_assert!((count as f64 - share).abs() <= slack + 1.0, "{weights:?}: {peer} has {count}, not {share}");
            }
        }

        #[test]
        fn any_weights_fit(weights in prop::collection::vec(1_u32..=65_535, 1..40), slots in 10_u32..1000) {
            let wheel = wheel(&weights, slots);
            prop_assert!(wheel.len() <= slots as usize + weights.len());
            prop_assert!(counts(&wheel, weights.len()).iter().all(|count| *count > 0));
        }
    }
}
