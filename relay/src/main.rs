//! The process: command line, runtime, exit code.

use std::{io, process::ExitCode};

use clap::{CommandFactory, Parser};
use relay::{
    args::{Arguments, Command},
    cli, manual, server,
};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::report_usage(&error),
    };
    match &arguments.command {
        Command::Completions { shell } => {
            return written(manual::print_completions(Arguments::command(), *shell));
        }
        Command::Man { folder } => {
            return written(manual::write_pages(Arguments::command(), folder));
        }
        Command::Serve(_) | Command::Operator(_) => {}
    }
    tunnel::keep_what_bulk_needs();
    tunnel::look_up_without_libraries();
    tunnel::install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match arguments.command {
        Command::Serve(serve) => runtime.block_on(server::main(serve, arguments.global.data_dir)),
        Command::Operator(command) => runtime.block_on(cli::run(command, arguments.global)),
        Command::Completions { .. } | Command::Man { .. } => unreachable!("done above"),
    }
}

fn written(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}
