//! Compiles the protocol's messages with a pure-Rust compiler, so that no
//! `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["sternline/v1.proto"], ["proto"])?;
    prost_build::Config::new()
        // Secrets and keys must not be printed by an accidental `{:?}`.
        .skip_debug([
            "sternline.v1.Token",
            "sternline.v1.Enrol",
            "sternline.v1.Operator",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
