//! Decisions: conditions a route can ask, each with an answer of yes or no; the first that holds counts. Expressions are
//! put together of them.

use super::matching::{HeaderTest, Match, Unfit};

/// Decisions of one expression at most.
pub(super) const MAX_DECISIONS: usize = 64;

/// A condition, and what is so where it holds.
pub(super) type Decision<T> = (Match, T);

/// Conditions and answers, in order, of which one always holds.
pub(super) type Decisions = Vec<Decision<bool>>;

/// A condition that holds or not.
pub(super) fn whether(found: Match) -> Decisions {
    vec![(found, true), (Match::default(), false)]
}

/// The condition that a field is there.
pub(super) fn exists(name: &str) -> Match {
    let mut found = Match::default();
    found.headers.insert(name.to_ascii_lowercase(), HeaderTest::Exists);
    found
}

/// The opposite.
pub(super) fn not(decisions: Decisions) -> Decisions {
    decisions.into_iter().map(|(when, is)| (when, !is)).collect()
}

/// Leaves out what the decisions behind it say as well.
pub(super) fn pruned(mut decisions: Decisions) -> Decisions {
    for index in (0..decisions.len()).rev() {
        let (when, is) = &decisions[index];
        let mut behind = decisions[index + 1..].iter().filter_map(|(other, answer)| {
            let both = when.and(other);
            (both != Ok(None)).then(|| (both.is_ok_and(|both| both.as_ref() == Some(when)), answer))
        });
        // All that fit say the same, up to one that always fits.
        let mut is_said = false;
        let agrees = behind.all(|(covers, answer)| {
            let agrees = is_said || answer == is;
            is_said |= covers && answer == is;
            agrees
        });
        if is_said && agrees {
            decisions.remove(index);
        }
    }
    decisions
}

/// Two expressions as one.
pub(super) fn join(a: &Decisions, b: &Decisions, of: impl Fn(bool, bool) -> bool) -> Result<Decisions, Unfit> {
    let mut all = Decisions::new();
    for (first, one) in a {
        // What the other says changes nothing where the first decides.
        if of(*one, true) == of(*one, false) {
            all.push((first.clone(), of(*one, true)));
            continue;
        }
        for (second, other) in b {
            all.extend(first.and(second)?.map(|both| (both, of(*one, *other))));
        }
    }
    if all.len() > MAX_DECISIONS {
        return Err(format!("an expression of more than {MAX_DECISIONS} cases"));
    }
    Ok(all)
}
