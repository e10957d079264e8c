//! Finds the best of many candidates without asking each: by what the path begins with, then by a field's value.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Request;
use super::candidate::Candidate;
use super::criteria::{HeaderPattern, ValuePattern};

/// Up to this many candidates are asked one by one.
const FEW: usize = 16;
/// From this many starts of one length on, a hash finds them.
const HASH_FROM: usize = 4;

/// The best candidate so far. Candidates stand in the order of their rank, the best first.
#[derive(Clone, Copy)]
pub(super) struct Best {
    pub(super) rank: u32,
    pub(super) matched: usize,
}

impl Best {
    /// Worse than every candidate.
    pub(super) const NONE: Self = Self { rank: u32::MAX, matched: 0 };

    /// Asks candidates of ascending rank until one matches or none can be better.
    fn improve(&mut self, ranks: &[u32], candidates: &[Candidate], request: &Request<'_>) {
        for rank in ranks.iter().copied().take_while(|rank| *rank < self.rank) {
            if let Some(matched) = candidates[rank as usize].matches(request) {
                *self = Self { rank, matched };
                return;
            }
        }
    }
}

/// Candidates for one host.
#[derive(Default)]
pub(super) struct Index {
    few: Box<[u32]>,
    /// By their best rank.
    starts: Box<[Starts]>,
}

/// Candidates whose paths begin with so many fixed bytes.
struct Starts {
    length: usize,
    best: u32,
    by_start: HashMap<Box<[u8]>, Fields>,
}

/// Candidates that differ, if they do, in the fields they ask for.
#[derive(Default)]
struct Fields {
    few: Box<[u32]>,
    names: Lengths,
    /// By name and value, both in lower case.
    by_name: HashMap<Box<[u8]>, ByValue<Box<[u32]>>>,
}

type ByValue<T> = HashMap<Box<[u8]>, T>;

impl Index {
    /// Indexes candidates given in ascending order.
    pub(super) fn new(ranks: Vec<u32>, candidates: &[Candidate]) -> Self {
        if ranks.len() <= FEW {
            return Self { few: ranks.into(), starts: Box::default() };
        }
        let mut by_length: BTreeMap<usize, BTreeMap<&[u8], Vec<u32>>> = BTreeMap::new();
        for rank in ranks {
            let start = &*candidates[rank as usize].start;
            by_length.entry(start.len()).or_default().entry(start).or_default().push(rank);
        }
        let (mut few, mut starts) = (Vec::new(), Vec::new());
        for (length, by_start) in by_length {
            let total: usize = by_start.values().map(Vec::len).sum();
            if total < HASH_FROM {
                few.extend(by_start.into_values().flatten());
                continue;
            }
            let best = by_start.values().filter_map(|ranks| ranks.first()).copied().min().unwrap_or(u32::MAX);
            let index = |(start, ranks): (&[u8], _)| (Box::from(start), Fields::new(ranks, candidates));
            starts.push(Starts { length, best, by_start: by_start.into_iter().map(index).collect() });
        }
        few.sort_unstable();
        starts.sort_unstable_by_key(|starts: &Starts| starts.best);
        Self { few: few.into(), starts: starts.into() }
    }

    /// Looks for a better candidate than the best so far.
    pub(super) fn find(&self, candidates: &[Candidate], request: &Request<'_>, best: &mut Best) {
        best.improve(&self.few, candidates, request);
        for starts in &self.starts {
            if starts.best >= best.rank {
                return;
            }
            let start = request.path.get(..starts.length);
            if let Some(fields) = start.and_then(|start| starts.by_start.get(start)) {
                fields.find(candidates, request, best);
            }
        }
    }
}

impl Fields {
    fn new(ranks: Vec<u32>, candidates: &[Candidate]) -> Self {
        if ranks.len() <= FEW {
            return Self { few: ranks.into(), ..Self::default() };
        }
        let mut values: HashMap<&str, HashSet<&str>> = HashMap::new();
        for rank in &ranks {
            for (name, wanted) in plain_fields(&candidates[*rank as usize]) {
                values.entry(name).or_default().extend(wanted.iter().map(|value| &**value));
            }
        }
        let (mut few, mut names) = (Vec::new(), Lengths::default());
        let mut by_name: HashMap<Box<[u8]>, ByValue<Vec<u32>>> = HashMap::new();
        for rank in ranks {
            // The field with the most values tells candidates apart best.
            let telling = plain_fields(&candidates[rank as usize]).max_by_key(|(name, _)| (values[name].len(), *name));
            let Some((name, wanted)) = telling else {
                few.push(rank);
                continue;
            };
            names.insert(name.len());
            let by_value = by_name.entry(name.as_bytes().into()).or_default();
            for value in wanted {
                let ranks = by_value.entry(value.as_bytes().into()).or_default();
                if ranks.last() != Some(&rank) {
                    ranks.push(rank);
                }
            }
        }
        let boxed = |by_value: HashMap<_, Vec<_>>| by_value.into_iter().map(|(value, ranks)| (value, ranks.into()));
        let by_name = by_name.into_iter().map(|(name, by_value)| (name, boxed(by_value).collect())).collect();
        Self { few: few.into(), names, by_name }
    }

    fn find(&self, candidates: &[Candidate], request: &Request<'_>, best: &mut Best) {
        best.improve(&self.few, candidates, request);
        if self.by_name.is_empty() {
            return;
        }
        let (mut name, mut value) = (Lower::default(), Lower::default());
        for field in request.head.fields().filter(|field| self.names.contains(field.name.len())) {
            let by_value = name.of(field.name).and_then(|name| self.by_name.get(name));
            let ranks = by_value.and_then(|by_value| by_value.get(value.of(field.value)?));
            if let Some(ranks) = ranks {
                best.improve(ranks, candidates, request);
            }
        }
    }
}

/// The fields a candidate asks for by values that can be looked up.
fn plain_fields(candidate: &Candidate) -> impl Iterator<Item = (&str, &[Box<str>])> {
    let headers: &[HeaderPattern] = candidate.asks.as_ref().map_or(&[], |asks| &asks.headers);
    headers.iter().filter_map(|header| match &header.value {
        ValuePattern::OneOf(values) if values.iter().all(|value| value.len() <= Lower::BYTES) => {
            (header.name.len() <= Lower::BYTES).then_some((&*header.name, values.as_slice()))
        }
        _ => None,
    })
}

/// Room for a short text in lower case.
pub(super) struct Lower([u8; Lower::BYTES]);

impl Default for Lower {
    fn default() -> Self {
        Self([0; Self::BYTES])
    }
}

impl Lower {
    /// The longest text it takes: names are at most 253 bytes (RFC 1035, 2.3.4), or 255 with dots at both ends.
    pub(super) const BYTES: usize = 255;

    /// The text in lower case; `None` for one that is too long to be in any table.
    pub(super) fn of(&mut self, text: &[u8]) -> Option<&[u8]> {
        let room = self.0.get_mut(..text.len())?;
        room.copy_from_slice(text);
        room.make_ascii_lowercase();
        Some(room)
    }
}

/// A set of lengths up to 255.
#[derive(Clone, Copy, Default)]
pub(super) struct Lengths([u64; 4]);

impl Lengths {
    pub(super) fn insert(&mut self, length: usize) {
        if let Some(word) = self.0.get_mut(length / 64) {
            *word |= 1 << (length % 64);
        }
    }

    pub(super) fn contains(&self, length: usize) -> bool {
        self.0.get(length / 64).is_some_and(|word| word >> (length % 64) & 1 == 1)
    }
}
