//! A strict reader of Prometheus' text format 0.0.4, as a scraper that forgives nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// One family: its type and its samples in order.
#[derive(Debug)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Each sample's name, its labels in order, and its value.
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Debug)]
pub struct Sample {
    /// The family's name, for histograms with a suffix.
    pub name: String,
    /// The labels in order, unescaped.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The names of the labels in order.
    pub fn names(&self) -> Vec<&str> {
        self.labels.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Reads a whole scrape, or says what a scraper would refuse.
pub fn parse(text: &str) -> Result<BTreeMap<String, Family>> {
    ensure!(text.ends_with('\n'), "the last line has no end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut helped = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, _) = rest.split_once(' ').with_context(|| format!("no text: {line}"))?;
            ensure!(helped.insert(name.to_owned()), "{name} has help twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').with_context(|| format!("no type: {line}"))?;
            ensure!(is_name(name), "{name:?} is no name");
            ensure!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let family = Family { kind: kind.into(), samples: Vec::new() };
            ensure!(families.insert(name.into(), family).is_none(), "{name} is announced twice");
            current = name.into();
        } else {
            ensure!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
            let sample = sample(line).with_context(|| line.to_owned())?;
            let family = families.get_mut(&current).context("a sample before every family")?;
            let suffix = sample.name.strip_prefix(&*current).with_context(|| format!("{line} in {current}"))?;
            let allowed: &[&str] = if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            ensure!(allowed.contains(&suffix), "{line} in {current}");
            let key = line.rsplit_once(' ').map(|(key, _)| key.to_owned());
            ensure!(seen.insert(key), "{line} comes twice");
            family.samples.push(sample);
        }
    }
    for (name, family) in families.iter().filter(|(_, family)| family.kind == "histogram") {
        histogram(family).with_context(|| name.clone())?;
    }
    Ok(families)
}

/// Every label set has all its buckets in ascending order, the last of them as large as its count.
fn histogram(family: &Family) -> Result<()> {
    let mut sets: BTreeMap<Vec<(String, String)>, Vec<&Sample>> = BTreeMap::new();
    for sample in &family.samples {
        let set = sample.labels.iter().filter(|(name, _)| name != "le").cloned().collect();
        sets.entry(set).or_default().push(sample);
    }
    for (set, samples) in sets {
        let buckets: Vec<_> = samples.iter().filter(|sample| sample.name.ends_with("_bucket")).collect();
        let mut bounds = Vec::new();
        for bucket in &buckets {
            let le = bucket.label("le").context("a bucket without a bound")?;
            bounds.push(if le == "+Inf" { f64::INFINITY } else { le.parse()? });
        }
        ensure!(bounds.is_sorted() && bounds.last() == Some(&f64::INFINITY), "{set:?}: bounds {bounds:?}");
        ensure!(buckets.is_sorted_by_key(|bucket| bucket.value), "{set:?}: buckets that shrink");
        let count = samples.iter().find(|sample| sample.name.ends_with("_count")).context("no count")?;
        ensure!(buckets.last().is_some_and(|last| last.value == count.value), "{set:?}: +Inf is not the count");
        ensure!(samples.iter().any(|sample| sample.name.ends_with("_sum")), "{set:?}: no sum");
    }
    Ok(())
}

fn sample(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    ensure!(is_name(name), "{name:?} is no name");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").context("no label")?;
            ensure!(is_name(label) && !label.contains(':'), "{label:?} is no label");
            ensure!(labels.iter().all(|(known, _)| known != label), "{label} twice");
            let (value, after) = quoted(after)?;
            labels.push((label.to_owned(), value));
            match after.split_at_checked(1) {
                Some((",", after)) => rest = after,
                Some(("}", after)) => {
                    rest = after;
                    break;
                }
                _ => bail!("neither another label nor an end"),
            }
        }
    }
    let value = rest.strip_prefix(' ').context("no space before the value")?;
    Ok(Sample { name: name.into(), labels, value: value.parse()? })
}

fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                _ => bail!("an unknown escape"),
            },
            other => value.push(other),
        }
    }
    bail!("a label without an end")
}

fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}
