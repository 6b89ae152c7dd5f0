//! The gateway's binary.

use std::process::ExitCode;

/// 12 % less CPU on the plain path than the system's: see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gapura::cli::main()
}
