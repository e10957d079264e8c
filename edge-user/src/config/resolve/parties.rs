//! Consumers with the groups they are in.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::problem::Sink;
use super::super::schema::Document;
use super::super::snapshot::{Consumer, ConsumerGroup, Consumers};
use super::index::Index;

/// The consumers, and how plugins find them and their groups.
pub(super) struct Parties {
    pub(super) consumers: Consumers,
    pub(super) by_consumer: Index,
    pub(super) by_group: Index,
}

pub(super) fn parties(document: &Document<'_>, sink: &Sink) -> Parties {
    let by_consumer = Index::of(
        "consumers",
        "username",
        &document.consumers,
        |entity| (&entity.common, entity.username.as_deref()),
        sink,
    );
    let by_group =
        Index::of("consumer_groups", "name", &document.groups, |entity| (&entity.common, entity.name.as_deref()), sink);
    let mut custom_ids = HashSet::new();
    for entity in &document.consumers {
        if let Some(custom_id) = &entity.custom_id
            && !custom_ids.insert(custom_id)
        {
            by_consumer.violation(&entity.common, "custom_id", custom_id, sink);
        }
    }
    let mut consumers: Vec<Consumer> = document.consumers.iter().map(consumer).collect();
    let groups = groups(document);
    join_groups(document, &by_consumer, &by_group, &groups, &mut consumers, sink);
    for entity in &document.acls {
        let Some(index) = by_consumer.find(&entity.consumer, sink) else { continue };
        let names = std::mem::take(&mut consumers[index].acl_groups);
        if names.iter().any(|group| **group == *entity.group) {
            let (line, path) = (entity.common.line, &entity.common.path);
            sink.problem(line, path, format!("the group '{}' again", entity.group), "each once for a consumer");
        }
        let mut names = names.into_vec();
        names.push(entity.group.as_str().into());
        consumers[index].acl_groups = names.into();
    }
    Parties { consumers: Consumers::new(consumers).with_groups(groups), by_consumer, by_group }
}

fn groups(document: &Document<'_>) -> Vec<Arc<ConsumerGroup>> {
    let group = |entity: &super::super::schema::GroupEntity| {
        let name = entity.name.as_deref().unwrap_or_default().into();
        Arc::new(ConsumerGroup { id: entity.common.id, name })
    };
    document.groups.iter().map(group).collect()
}

fn consumer(entity: &super::super::schema::ConsumerEntity) -> Consumer {
    Consumer {
        id: entity.common.id,
        username: entity.username.as_deref().map(Into::into),
        custom_id: entity.custom_id.as_deref().map(Into::into),
        ..Consumer::default()
    }
}

/// Puts consumers into their groups. Saying so twice is harmless: a consumer and its group may both say it.
fn join_groups(
    document: &Document<'_>,
    by_consumer: &Index,
    by_group: &Index,
    groups: &[Arc<ConsumerGroup>],
    consumers: &mut [Consumer],
    sink: &Sink,
) {
    let mut members: Vec<Vec<Arc<ConsumerGroup>>> = vec![Vec::new(); consumers.len()];
    for entity in &document.members {
        let (consumer, group) = (by_consumer.find(&entity.consumer, sink), by_group.find(&entity.group, sink));
        let (Some(consumer), Some(group)) = (consumer, group) else { continue };
        members[consumer].push(Arc::clone(&groups[group]));
    }
    for (consumer, mut groups) in consumers.iter_mut().zip(members) {
        // Of several groups' instances of a plugin the first by name counts.
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups.dedup_by_key(|group| group.id);
        consumer.groups = groups.into();
    }
}
