//! ORT_HOME: where ONNX Runtime's release archive was unpacked; without it, the system's library.

fn main() {
    println!("cargo:rerun-if-env-changed=ORT_HOME");
    if let Ok(home) = std::env::var("ORT_HOME") {
        println!("cargo:rustc-link-search=native={home}/lib");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{home}/lib");
    }
}
