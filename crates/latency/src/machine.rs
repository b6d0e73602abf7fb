//! The machine a number was measured on.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::affinity::allowed_cores;

/// What a latency depends on besides model and runtime. Recorded beside every number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor model; family, model and stepping where virtual machines hide the name.
    pub cpu: String,
    /// Vector extensions that decide which kernels run.
    pub extensions: Vec<String>,
    /// Logical processors of the machine.
    pub cores: usize,
    /// Frequency governor of the first processor; `None` where the system has none (most virtual
    /// machines).
    pub governor: Option<String>,
    /// Logical processors this process may use.
    pub affinity: Vec<usize>,
    /// Main memory in bytes.
    pub memory_bytes: u64,
    /// Accelerators, where `nvidia-smi` lists them.
    pub gpus: Vec<Gpu>,
    /// Operating system and kernel.
    pub kernel: String,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Product name.
    pub name: String,
    /// Driver version.
    pub driver: String,
    /// Memory, as the driver prints it.
    pub memory: String,
}

impl Machine {
    /// Describes this machine; read once per process, except for the affinity.
    pub fn detect() -> Self {
        static STATIC: OnceLock<Machine> = OnceLock::new();
        let mut machine = STATIC.get_or_init(Self::read).clone();
        machine.affinity = allowed_cores();
        machine
    }

    fn read() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            cpuinfo
                .lines()
                .find(|l| l.split(':').next().is_some_and(|k| k.trim() == name))
                .and_then(|l| l.split_once(':'))
                .map(|(_, v)| v.trim().to_string())
                .unwrap_or_default()
        };
        let mut cpu = field("model name");
        if cpu.is_empty() {
            cpu = field("Model");
        }
        if cpu.is_empty() {
            cpu = std::env::consts::ARCH.to_string();
        }
        let (family, model, stepping) = (field("cpu family"), field("model"), field("stepping"));
        if !family.is_empty() {
            cpu = format!("{cpu} (family {family} model {model} stepping {stepping})");
        }
        let flags = if field("flags").is_empty() { field("Features") } else { field("flags") };
        let wanted =
            |flag: &&str| ["avx", "fma", "f16c", "amx", "sse4", "asimd", "sve", "i8mm", "bf16", "fp16"].iter().any(|p| flag.starts_with(p));
        let mut extensions: Vec<String> = flags.split_whitespace().filter(wanted).map(String::from).collect();
        extensions.sort();
        let memory_bytes = read("/proc/meminfo")
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024;
        Self {
            cpu,
            extensions,
            cores: std::thread::available_parallelism()
                .map_or(1, usize::from)
                .max(cpuinfo.lines().filter(|l| l.starts_with("processor")).count()),
            governor: std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok().map(|s| s.trim().to_string()),
            affinity: allowed_cores(),
            memory_bytes,
            gpus: gpus(),
            kernel: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
        }
    }

    /// Hash of what makes numbers comparable: processor, extensions, cores, governor, affinity and
    /// GPUs. Memory size and kernel are recorded but not part of it.
    pub fn identity(&self) -> String {
        let parts = (&self.cpu, &self.extensions, self.cores, &self.governor, &self.affinity, &self.gpus);
        let text = serde_json::to_string(&parts).unwrap_or_default();
        blake3::hash(text.as_bytes()).to_hex()[..16].to_string()
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} cores", self.cpu, self.cores)?;
        if let Some(governor) = &self.governor {
            write!(f, ", governor {governor}")?;
        }
        for gpu in &self.gpus {
            write!(f, ", {} (driver {})", gpu.name, gpu.driver)?;
        }
        write!(f, ", {}", self.kernel)
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn gpus() -> Vec<Gpu> {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    let Ok(output) = Command::new("nvidia-smi").args(query).output() else {
        return Vec::new();
    };
    if !output.status.success() {
        return Vec::new();
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(',').map(|f| f.trim().to_string());
            Some(Gpu { name: fields.next()?, driver: fields.next()?, memory: fields.next()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_ignores_kernel_and_memory_and_sees_the_governor() {
        let machine = Machine::detect();
        let mut other = machine.clone();
        other.kernel = "another".into();
        other.memory_bytes += 1;
        assert_eq!(machine.identity(), other.identity());
        other.governor = Some("powersave-for-test".into());
        assert_ne!(machine.identity(), other.identity());
    }

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::detect();
        assert!(machine.cores >= 1 && !machine.cpu.is_empty() && !machine.kernel.is_empty());
    }
}
