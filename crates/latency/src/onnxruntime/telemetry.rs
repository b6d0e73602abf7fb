//! Keeps ONNX Runtime from sending usage data.

/// The variable that ONNX Runtime 1.29 and newer reads when its environment is made.
const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Sets the variable unless the user has set it. Call before the library is loaded.
///
/// The environment's own switch ([`ort::environment::EnvironmentBuilder::with_telemetry`]) acts
/// only after the environment, and with it the uploader's thread, exists; so both are used. A
/// program that wants no environment change at run time exports the variable before it starts.
pub(super) fn disable() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    // SAFETY: changing the environment is unsound only while another thread reads or writes it
    // without the standard library's lock, that is through C's getenv. This runs once per process,
    // before the one C library of this program that reads the environment is loaded. There is no
    // safe way to hand the variable to a library in the same process.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var(VARIABLE, "1");
    }
}
