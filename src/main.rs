//! The gateway's binary.

use std::process::ExitCode;

/// With a heap for each thread: workers do not wait for each other's allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gapura::cli::main()
}
