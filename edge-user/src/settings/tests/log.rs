//! `[log]`: what goes before the file.

use super::*;

#[test]
fn the_environment_sets_the_log_level() {
    for (env, expected) in [
        (&[][..], Level::Warn),
        (&[("KONG_LOG_LEVEL", "debug")], Level::Debug),
        (&[("KONG_LOG_LEVEL", "")], Level::Warn),
        (&[("KONG_LOG_LEVEL", "debug"), ("EDGE_LOG_LEVEL", "crit")], Level::Error),
        (&[("EDGE_LOG_LEVEL", "notice")], Level::Info),
    ] {
        let (settings, problems, _dir) = read_text(&format!("{LISTENER}[log]\nlevel = \"warn\""), env);
        assert_eq!((settings.log.level, problems), (expected, vec![]), "{env:?}");
    }
    let (_, problems, _dir) = read_text(LISTENER, &[("EDGE_LOG_LEVEL", "loud")]);
    assert!(problems[0].contains("environment EDGE_LOG_LEVEL: found \"loud\", expected one of: debug"), "{problems:?}");
}
