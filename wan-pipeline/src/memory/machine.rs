//! What memory there is for this process.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use wan_core::DeviceMemory;

/// What the C library reserves of the address space for each thread that allocates.
const ARENA: u64 = 64 << 20;

/// The memory that this process can still get. What it has is spent.
///
/// Swap does not count: weights that are read in every step would come from the disk in every step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailableMemory {
    limits: Vec<Limit>,
}

/// What sets the memory of a process an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryLimit {
    /// The memory of the machine.
    Machine,
    /// The memory of the GPU.
    Device,
    /// The limit of a container or of another group of processes (cgroup).
    Container,
    /// The limit on the address space of the process (`ulimit -v`).
    AddressSpace,
    /// The limit on the data of the process (`ulimit -d`).
    Data,
    /// The limit that the caller has set.
    Set,
}

/// One of the limits that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    kind: MemoryLimit,
    /// Bytes that are free now.
    free: u64,
    /// The most bytes that could become free, with swap.
    ceiling: u64,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "on this machine",
            Self::Device => "on the device",
            Self::Container => "within the limit of the container (cgroup)",
            Self::AddressSpace => "within the limit on the address space (ulimit -v)",
            Self::Data => "within the limit on the data of a process (ulimit -d)",
            Self::Set => "within the limit that was set",
        })
    }
}

impl AvailableMemory {
    /// What there is now; `None` where the system does not tell, which is so on all but Linux.
    pub fn now() -> Option<Self> {
        Self::read(Path::new("/"))
    }

    /// The rest of a limit that the caller has set, of which so much is used.
    pub(super) fn set(limit: u64, used: u64) -> Self {
        let free = limit.saturating_sub(used);
        Self { limits: vec![Limit { kind: MemoryLimit::Set, free, ceiling: free }] }
    }

    pub(super) fn of_device(memory: DeviceMemory) -> Self {
        let (free, ceiling) = (memory.free, memory.total);
        Self { limits: vec![Limit { kind: MemoryLimit::Device, free, ceiling }] }
    }

    /// The bytes that are free: the smallest of all limits.
    pub fn bytes(&self) -> u64 {
        self.tightest().free
    }

    /// The limit that [`bytes`](Self::bytes) is of.
    pub fn limit(&self) -> MemoryLimit {
        self.tightest().kind
    }

    /// The most bytes that could become free, and what they are limited by.
    pub(super) fn ceiling(&self) -> (u64, MemoryLimit) {
        let lowest = self.limits.iter().min_by_key(|limit| limit.ceiling);
        lowest.map_or((u64::MAX, MemoryLimit::Machine), |limit| (limit.ceiling, limit.kind))
    }

    fn tightest(&self) -> Limit {
        let limits = self.limits.iter().min_by_key(|limit| limit.free);
        *limits.expect("it is made with a limit at least")
    }

    /// Of the machine whose files are below `root`.
    fn read(root: &Path) -> Option<Self> {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let machine = Machine::parse(&text("proc/meminfo"));
        let swap = machine.as_ref().map_or(0, |machine| machine.swap);
        let mut limits: Vec<Limit> = machine.iter().map(Machine::limit).collect();
        let groups = groups(&text("proc/self/mountinfo"), &text("proc/self/cgroup"));
        limits.extend(groups.iter().flat_map(|group| group.limits(root, swap)));
        limits.extend(process(&text("proc/self/limits"), &text("proc/self/status")));
        (!limits.is_empty()).then_some(Self { limits })
    }

    #[cfg(test)]
    pub(super) fn of(kind: MemoryLimit, free: u64, ceiling: u64) -> Self {
        Self { limits: vec![Limit { kind, free, ceiling }] }
    }
}

/// `/proc/meminfo`, which in a container is that of the host.
struct Machine {
    total: u64,
    available: u64,
    swap: u64,
}

impl Machine {
    fn parse(meminfo: &str) -> Option<Self> {
        let kib = |name: &str| field(meminfo, name, 1024);
        let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
        Some(Self { total, available, swap: kib("SwapTotal:").unwrap_or(0) })
    }

    fn limit(&self) -> Limit {
        let ceiling = self.total.saturating_add(self.swap);
        Limit { kind: MemoryLimit::Machine, free: self.available, ceiling }
    }
}

/// The bytes of data that this process has; 0 where the system does not tell.
pub(super) fn used() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    field(&status, "VmData:", 1024).unwrap_or(0)
}

/// The number after `name` at the start of a line, times `unit`.
fn field(text: &str, name: &str, unit: u64) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = rest.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(unit)
}

/// Threads that compute.
pub(super) fn threads() -> usize {
    #[cfg(feature = "flex")]
    return wan_core::backend::cpu_threads();
    #[cfg(not(feature = "flex"))]
    return std::thread::available_parallelism().map_or(1, |threads| threads.get());
}

/// The limits of the shell, which count what the process has.
fn process(limits: &str, status: &str) -> Vec<Limit> {
    let of = |kind, name, used| {
        let limit = field(limits, name, 1)?;
        let free = limit.saturating_sub(field(status, used, 1024)?);
        Some(Limit { kind, free, ceiling: free })
    };
    let threads = threads();
    let without_arenas =
        |limit: Limit| Limit { free: limit.free.saturating_sub(ARENA * threads as u64), ..limit };
    let data = of(MemoryLimit::Data, "Max data size", "VmData:");
    let space = of(MemoryLimit::AddressSpace, "Max address space", "VmSize:");
    data.into_iter().chain(space.map(without_arenas)).collect()
}

/// A group of processes with a limit on memory (cgroup), and those that it is in.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    version: Version,
    /// From the root of the file system, without a leading slash.
    mount: PathBuf,
    /// Below the mount.
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The groups that this process is in: of each version one at most, one of which limits memory.
fn groups(mounts: &str, membership: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for mount in mounts.lines() {
        // 35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory
        let Some((place, kind)) = mount.split_once(" - ") else { continue };
        let place: Vec<&str> = place.split(' ').collect();
        let kind: Vec<&str> = kind.split(' ').collect();
        let (&[_, _, _, top, mount, ..], &[kind, _, options, ..]) = (&place[..], &kind[..]) else {
            continue;
        };
        let version = match kind {
            "cgroup2" => Version::Two,
            "cgroup" if options.split(',').any(|option| option == "memory") => Version::One,
            _ => continue,
        };
        let of_version = membership.lines().find_map(|line| version.path(line));
        let Some(path) = of_version else { continue };
        let mount = PathBuf::from(mount.trim_start_matches('/'));
        groups.push(Group { version, mount, path: below(path, top) });
    }
    groups
}

/// The part of a group's path that is below the top of the mount. In a container the path may be that
/// on the host, or lead out of what is mounted: then the top is the group of the container.
fn below(path: &str, top: &str) -> PathBuf {
    let path = Path::new(path);
    let inside = path.strip_prefix(top).or(path.strip_prefix("/")).unwrap_or(Path::new(""));
    match inside.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
        true => inside.to_owned(),
        false => PathBuf::new(),
    }
}

impl Version {
    /// The path in a line of `/proc/self/cgroup`, if it is of this version.
    fn path(self, line: &str) -> Option<&str> {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let ok = match self {
            Self::One => controllers.split(',').any(|name| name == "memory"),
            Self::Two => number == "0" && controllers.is_empty(),
        };
        ok.then_some(path)
    }
}

impl Group {
    /// The limit of the group and of each that it is in, where they have one.
    fn limits(&self, root: &Path, swap: u64) -> Vec<Limit> {
        let levels = self.path.ancestors().map(|path| root.join(&self.mount).join(path));
        levels.filter_map(|folder| self.version.limit(&folder, swap)).collect()
    }
}

impl Version {
    /// The limit of the group in a folder. What the kernel can take back at once, pages of files that
    /// nobody has used for some time, is free.
    fn limit(self, folder: &Path, swap: u64) -> Option<Limit> {
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        // "max", or a number near the largest in the first version, is none.
        let number = |name: &str| text(name).trim().parse::<u64>().ok().filter(|&n| n < 1 << 60);
        let (hard, soft, used, cached, swap) = match self {
            Self::Two => {
                let swap = number("memory.swap.max").unwrap_or(u64::MAX).min(swap);
                let names = ("memory.max", "memory.high", "memory.current", "inactive_file ");
                (number(names.0), number(names.1), names.2, names.3, swap)
            }
            Self::One => {
                let hard = number("memory.limit_in_bytes");
                let both = number("memory.memsw.limit_in_bytes").unwrap_or(u64::MAX);
                let swap = both.saturating_sub(hard.unwrap_or(0)).min(swap);
                (hard, None, "memory.usage_in_bytes", "total_inactive_file ", swap)
            }
        };
        let limit = hard.into_iter().chain(soft).min()?;
        let cached = field(&text("memory.stat"), cached, 1).unwrap_or(0);
        let used = number(used)?.saturating_sub(cached);
        let ceiling = hard.map_or(u64::MAX, |hard| hard.saturating_add(swap));
        let free = limit.saturating_sub(used);
        Some(Limit { kind: MemoryLimit::Container, free, ceiling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24683652 kB\nMemFree:        20914688 kB\n\
        MemAvailable:   23344204 kB\nSwapCached:            0 kB\nSwapTotal:       1000000 kB\n";
    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max data size             unlimited            unlimited            bytes     
Max address space         unlimited            unlimited            bytes     
";
    const STATUS: &str = "VmSize:\t    3760 kB\nVmData:\t     292 kB\n";
    /// A machine with both versions, where the first has the controller of memory.
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str =
        "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    /// The files of a machine, each a path and its text.
    fn machine(files: &[(&str, &str)]) -> Option<AvailableMemory> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        AvailableMemory::read(root.path())
    }

    fn free(files: &[(&str, &str)]) -> (u64, MemoryLimit) {
        let host =
            [("proc/meminfo", MEMINFO), ("proc/self/limits", LIMITS), ("proc/self/status", STATUS)];
        let available = machine(&[&host, files].concat()).unwrap();
        (available.bytes(), available.limit())
    }

    #[test]
    fn a_machine_has_what_it_says_is_available() {
        assert_eq!(free(&[]), (23_344_204 << 10, MemoryLimit::Machine));
        assert_eq!(machine(&[]), None);
        assert_eq!(machine(&[("proc/meminfo", "MemTotal: lots\n")]), None);
    }

    #[test]
    fn a_container_counts_what_cannot_be_taken_back() {
        let group = |path: &'static str, max: &'static str, high: &'static str| {
            let stat =
                "anon 3000000000\nfile 1500000000\ninactive_file 1000000000\nactive_file 5\n";
            vec![
                ("proc/self/mountinfo", UNIFIED),
                ("proc/self/cgroup", path),
                ("sys/fs/cgroup/box/memory.max", max),
                ("sys/fs/cgroup/box/memory.high", high),
                ("sys/fs/cgroup/box/memory.current", "4000000000\n"),
                ("sys/fs/cgroup/box/memory.stat", stat),
            ]
        };
        let container = |bytes| (bytes, MemoryLimit::Container);
        assert_eq!(free(&group("0::/box\n", "8000000000\n", "max\n")), container(5_000_000_000));
        assert_eq!(free(&group("0::/box\n", "max\n", "7000000000\n")), container(4_000_000_000));
        assert_eq!(free(&group("0::/box\n", "2000000000\n", "max\n")), container(0));
        assert_eq!(free(&group("0::/box\n", "max\n", "max\n")).1, MemoryLimit::Machine);
        // The limit of a group holds for those inside it.
        let inner = "0::/box/inner/innermost\n";
        assert_eq!(free(&group(inner, "8000000000\n", "max\n")), container(5_000_000_000));
    }

    #[test]
    fn inside_a_container_the_top_of_the_mount_is_its_group() {
        for (top, path) in [
            ("/", "/"),
            ("/docker/7f", "/docker/7f"),
            ("/docker/7f", "/docker/7f/x"),
            ("/../..", "/../../docker/7f"),
            ("/", "/docker/7f"),
        ] {
            let mount = UNIFIED.replace(" / /sys", &format!(" {top} /sys"));
            let member = format!("0::{path}\n");
            let found = free(&[
                ("proc/self/mountinfo", &mount),
                ("proc/self/cgroup", &member),
                ("sys/fs/cgroup/memory.max", "1000000000\n"),
                ("sys/fs/cgroup/memory.current", "400000000\n"),
            ]);
            assert_eq!(found, (600_000_000, MemoryLimit::Container), "{top} {path}");
        }
    }

    #[test]
    fn the_first_version_is_read_too() {
        let group = |limit: &'static str| {
            [
                ("proc/self/mountinfo", HYBRID),
                ("proc/self/cgroup", "8:pids:/\n4:memory:/api/cc6d\n3:cpuset:/\n0::/\n"),
                ("sys/fs/cgroup/memory/api/cc6d/memory.limit_in_bytes", limit),
                ("sys/fs/cgroup/memory/api/cc6d/memory.usage_in_bytes", "900000000\n"),
                (
                    "sys/fs/cgroup/memory/api/cc6d/memory.stat",
                    "cache 5\ninactive_file 1\ntotal_inactive_file 300000000\n",
                ),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "2900000000\n"),
            ]
        };
        assert_eq!(free(&group("2000000000\n")), (1_400_000_000, MemoryLimit::Container));
        assert_eq!(free(&group("9223372036854771712\n")).1, MemoryLimit::Machine);
    }

    #[test]
    fn limits_of_the_shell_count_what_the_process_has() {
        let limited = |name: &str, bytes: &str| {
            let limits = LIMITS.replacen(&format!("{name}unlimited"), &format!("{name}{bytes}"), 1);
            assert_ne!(limits, LIMITS);
            let text = limits.as_str();
            let host = [("proc/meminfo", MEMINFO), ("proc/self/status", STATUS)];
            let found = machine(&[&host[..], &[("proc/self/limits", text)]].concat()).unwrap();
            (found.bytes(), found.limit())
        };
        let data = limited("Max data size             ", "300000000");
        assert_eq!(data, (300_000_000 - (292 << 10), MemoryLimit::Data));
        let (bytes, limit) = limited("Max address space         ", "9000000000");
        assert_eq!(limit, MemoryLimit::AddressSpace);
        assert!(bytes <= 9_000_000_000 - (3760 << 10) - ARENA, "{bytes}");
    }

    #[test]
    fn swap_counts_only_against_certainty() {
        let files = |max_swap: &'static str| {
            let available = machine(&[
                ("proc/meminfo", MEMINFO),
                ("proc/self/mountinfo", UNIFIED),
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", "1000000000\n"),
                ("sys/fs/cgroup/memory.current", "0\n"),
                ("sys/fs/cgroup/memory.swap.max", max_swap),
            ]);
            let available = available.unwrap();
            assert_eq!(available.bytes(), 1_000_000_000);
            available.ceiling().0
        };
        assert_eq!(files("0\n"), 1_000_000_000);
        assert_eq!(files("max\n"), 1_000_000_000 + (1_000_000 << 10));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        let available = AvailableMemory::now().unwrap();
        assert!(available.bytes() > 0 && available.ceiling().0 >= available.bytes());
    }
}
