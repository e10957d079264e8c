//! Every program of the object on the kernel that runs here: it loads, and how much the verifier went through.

use aya::{Ebpf, programs::Program};

/// Prints `program NAME INSTRUCTIONS` for each, which `cargo xtask kernel` reads.
#[test]
fn every_program_loads() {
    crate::require_root();
    let mut ebpf = Ebpf::load(edge_user::kernel::OBJECT).unwrap();
    let mut lines = Vec::new();
    for (name, program) in ebpf.programs_mut() {
        let loaded = match program {
            Program::Xdp(program) => program.load(),
            Program::SkReuseport(program) => program.load(),
            Program::SkLookup(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            other => panic!("{name} is a program of a kind that this test does not know: {:?}", other.prog_type()),
        };
        loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let instructions = program.info().unwrap().verified_instruction_count();
        lines.push(format!("program {name} {}", instructions.map_or("?".to_owned(), |count| count.to_string())));
    }
    lines.sort();
    println!("\n{}", lines.join("\n"));
}
