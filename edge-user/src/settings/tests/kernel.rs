//! `[kernel]`: what a start says of it.

use super::*;

#[test]
fn an_experiment_is_called_one() {
    let text = "kernel_reject = \"kept\"\n[kernel]\ninterfaces = [\"eth0\"]\n";
    let (s, _dir) = good(&format!("{LISTENER}{text}"));
    assert!(s.kernel.keeps && s.kernel.rejects);
    assert!(s.warnings.iter().any(|warning| warning.contains("is an experiment")), "{:?}", s.warnings);
}

/// The switch may be turned beside what depends on it, where that changes speed alone.
#[test]
fn what_does_nothing_without_kernel_programs_is_told() {
    let text = "kernel_reject = \"first\"\n[kernel]\nmode = \"off\"\nlanes = true\npin = \"/sys/fs/bpf/edge\"\n";
    let (s, _dir) = good(&format!("{LISTENER}{text}"));
    for name in ["kernel.lanes", "kernel.pin", "kernel_reject"] {
        let expected = format!("{name} does nothing while kernel.mode is \"off\"");
        assert!(s.warnings.iter().any(|warning| warning.contains(&expected)), "{name}: {:?}", s.warnings);
    }
}
