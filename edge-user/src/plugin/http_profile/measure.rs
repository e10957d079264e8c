//! What ten rules cost: `cargo nextest run --release --run-ignored only -E 'test(measure_ten_rules)' --no-capture`.

use std::hint::black_box;
use std::time::Instant;

use super::NAME;
use crate::plugin::Access;
use crate::plugin::testing::{Scene, parse};

#[test]
#[ignore = "a measurement"]
fn measure_ten_rules() {
    let yaml = "request: {headers: [
        {action: replace, name: X-Client-Address, value: '$(client.address)'},
        {action: insert, name: X-Edge, value: one},
        {action: replace, name: X-Scheme, value: https},
        {action: erase, name: X-Debug},
        {action: erase, name: X-Internal-Token},
        {action: rename, name: X-Old, to: X-New},
        {action: append, name: X-Trail, value: edge},
        {action: insert, name: X-Api, value: v2, when: {path: [/path]}},
        {action: insert, name: X-Bot, value: bot, when: {header: {name: User-Agent, contains: bot}}},
        {action: erase, name: X-Trace, when: {not: {header: {name: X-Trace, exists: true}}}}]}";
    let names: Vec<String> = (0..10).map(|index| format!("X-Field-{index}")).collect();
    let mut sent =
        vec![("Host", "api.example"), ("User-Agent", "curl/8"), ("Accept", "*/*"), ("X-Old", "a"), ("X-Debug", "1")];
    sent.extend(names.iter().map(|name| (name.as_str(), "value")));
    let (plugin, mut scene) = (parse(NAME, yaml).expect("good settings"), Scene::new("GET", &sent));
    let head = scene.head.clone();
    let mut nanoseconds = |work: &dyn Fn(&mut Scene)| {
        const ROUNDS: u32 = 100_000;
        let mut run = || {
            let begun = Instant::now();
            for _ in 0..ROUNDS {
                scene.head = black_box(&head).clone();
                work(&mut scene);
            }
            begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
        };
        (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
    };
    let bare = nanoseconds(&|_| {});
    let ruled = nanoseconds(&|scene| {
        let profile = plugin.profile().expect("a profile");
        assert!(matches!(profile.access(&mut scene.request()), Access::Continue));
    });
    println!("ten rules: {:.0} ns a request", ruled - bare);
}
