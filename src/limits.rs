//! How much memory the place that the server runs in allows.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use rustix::process::{Resource, getrlimit};

/// The default of [`Config::max_memory`](crate::Config::max_memory) where nothing allows less.
const MAX_MEMORY: usize = 1 << 30;

/// The default of [`Config::max_memory`](crate::Config::max_memory): 1 GiB, but at most half of what the cgroup
/// and the resource limits allow. The other half is for what does not count as held for clients: 64 KiB for each
/// of them, the program itself, and, in a cgroup, the kernel's socket buffers. Looked up once.
pub(crate) fn default_max_memory() -> usize {
    static DEFAULT: LazyLock<usize> = LazyLock::new(|| {
        let limits = [cgroup_limit(Path::new("/")), address_space_limit(), getrlimit(Resource::Data).current];
        limits.into_iter().flatten().fold(MAX_MEMORY, |least, limit| least.min(half(limit)))
    });
    *DEFAULT
}

fn half(limit: u64) -> usize {
    usize::try_from(limit / 2).unwrap_or(usize::MAX)
}

#[cfg(not(target_os = "openbsd"))]
fn address_space_limit() -> Option<u64> {
    getrlimit(Resource::As).current
}

#[cfg(target_os = "openbsd")]
fn address_space_limit() -> Option<u64> {
    None
}

/// The least memory limit, in bytes, of this process's cgroup and its ancestors, of both versions (cgroups(7)),
/// or `None` if there is none or it cannot be found out. `root` is the folder that holds `proc`.
fn cgroup_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let hierarchies = groups.lines().filter_map(Hierarchy::parse);
    let limits = hierarchies.flat_map(|hierarchy| {
        let mounts = mounts.lines().filter_map(Mount::parse).filter(move |mount| mount.version == hierarchy.version);
        mounts.filter_map(move |mount| mount.limit(hierarchy.group, root))
    });
    limits.min()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    /// The file that has a group's limit.
    const fn file(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }
}

/// A hierarchy of cgroups that may limit memory, and the group in it that this process is in.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy<'a> {
    version: Version,
    group: &'a str,
}

impl<'a> Hierarchy<'a> {
    /// Reads a line of /proc/self/cgroup: `4:memory:/group`, or `0::/group` of version 2.
    fn parse(line: &'a str) -> Option<Self> {
        let (id, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        if id == "0" && controllers.is_empty() {
            return Some(Self { version: Version::V2, group });
        }
        let is_memory = controllers.split(',').any(|controller| controller == "memory");
        is_memory.then_some(Self { version: Version::V1, group })
    }
}

/// Where a hierarchy, or the part of it that a container sees, is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    version: Version,
    /// The group that is at `point`.
    root: &'a str,
    point: &'a str,
}

impl<'a> Mount<'a> {
    /// Reads a line of /proc/self/mountinfo (proc_pid_mountinfo(5)):
    /// `35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`.
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let version = match system.next()? {
            "cgroup2" => Version::V2,
            "cgroup" if system.nth(1)?.split(',').any(|option| option == "memory") => Version::V1,
            _ => return None,
        };
        Some(Self { version, root, point })
    }

    /// The least limit of `group` and its ancestors, as far as they can be seen here.
    fn limit(&self, group: &str, root: &Path) -> Option<u64> {
        let point = root.join(self.point.trim_start_matches('/'));
        let folder = point.join(self.below(group));
        let folders = folder.ancestors().take_while(|folder| folder.starts_with(&point));
        // The file has a number or, in version 2, `max`.
        let limits = folders.filter_map(|folder| fs::read_to_string(folder.join(self.version.file())).ok());
        limits.filter_map(|limit| limit.trim().parse().ok()).min()
    }

    /// The path from the group that is mounted to `group`. A group that is not below it, or that a namespace hides
    /// behind `..`, is taken for the one that is mounted: that is what a container sees of its own.
    fn below(&self, group: &str) -> PathBuf {
        let path = Path::new(group).strip_prefix(self.root).unwrap_or(Path::new(""));
        let is_plain = path.components().all(|component| matches!(component, Component::Normal(_)));
        if is_plain { path.to_owned() } else { PathBuf::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const GIB: u64 = 1 << 30;

    /// A folder that stands for `/`, with these files in it.
    struct Root(PathBuf);

    impl Root {
        fn with(files: &[(&str, &str)]) -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("sockets-limits-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let root = Self(std::env::temp_dir().join(name));
            for (path, content) in files {
                let path = root.0.join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("created");
                fs::write(path, content).expect("written");
            }
            root
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn limit_with(cgroup: &str, mountinfo: &str, limits: &[(&str, &str)]) -> Option<u64> {
        let files = [&[("proc/self/cgroup", cgroup), ("proc/self/mountinfo", mountinfo)], limits].concat();
        cgroup_limit(&Root::with(&files).0)
    }

    const V2: &str = "22 1 0:20 / / rw - ext4 /dev/sda1 rw\n\
                      30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw shared:8 - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 master:1 - cgroup cgroup rw,memory\n";

    #[test]
    fn the_own_group_and_its_ancestors_limit_in_version_2() {
        let files = |top: &str, slice: &str, own: &str| {
            limit_with(
                "0::/system.slice/echo.service\n",
                V2,
                &[
                    ("sys/fs/cgroup/memory.max", top),
                    ("sys/fs/cgroup/system.slice/memory.max", slice),
                    ("sys/fs/cgroup/system.slice/echo.service/memory.max", own),
                    ("sys/fs/cgroup/user.slice/memory.max", "1"),
                ],
            )
        };
        assert_eq!(files("max\n", "max\n", "max\n"), None);
        assert_eq!(files("max\n", "max\n", "1073741824\n"), Some(GIB));
        assert_eq!(files("max\n", "536870912\n", "1073741824\n"), Some(GIB / 2));
        assert_eq!(files("4096\n", "max\n", "max\n"), Some(4096));
        assert_eq!(files("\n", "many", "0\n"), Some(0));
    }

    #[test]
    fn the_own_group_and_its_ancestors_limit_in_version_1() {
        let files = |own: &str, above: &str| {
            limit_with(
                "5:cpu,cpuacct:/cpu\n4:hugetlb,memory:/docker/abc\n1:name=systemd:/memory\n0::/\n",
                V1,
                &[
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                    ("sys/fs/cgroup/memory/docker/memory.limit_in_bytes", above),
                    ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", own),
                    ("sys/fs/cgroup/cpu/cpu/memory.limit_in_bytes", "1"),
                ],
            )
        };
        assert_eq!(files("536870912\n", "9223372036854771712\n"), Some(GIB / 2));
        assert_eq!(files("9223372036854771712\n", "536870912\n"), Some(GIB / 2));
        assert_eq!(files("9223372036854771712\n", "9223372036854771712\n"), Some(9223372036854771712));
    }

    /// Without a namespace of its own, a container sees its group's path from the host, at the mount's top.
    #[test]
    fn a_container_finds_its_limit_where_it_is_mounted() {
        let mount = "40 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let limits = [
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "4096\n"),
            ("sys/memory.limit_in_bytes", "1\n"),
        ];
        assert_eq!(limit_with("4:memory:/docker/abc\n", mount, &limits), Some(GIB));
        assert_eq!(limit_with("4:memory:/docker/abc/inner\n", mount, &limits), Some(4096));
        assert_eq!(limit_with("4:memory:/elsewhere\n", mount, &limits), Some(GIB));
        let mount = "40 31 0:32 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(limit_with("4:memory:/../..\n", mount, &limits), Some(GIB));
    }

    #[test]
    fn the_lower_limit_of_both_versions_counts() {
        let limits = [("sys/fs/cgroup/memory.max", "8192\n"), ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n")];
        assert_eq!(limit_with("4:memory:/\n0::/\n", &format!("{V1}{V2}"), &limits), Some(4096));
    }

    #[test]
    fn without_cgroups_nothing_limits() {
        assert_eq!(cgroup_limit(&Root::with(&[]).0), None);
        assert_eq!(limit_with("", "", &[]), None);
        assert_eq!(limit_with("0::/\n", V2, &[]), None);
        assert_eq!(limit_with("0::/\n", "", &[("sys/fs/cgroup/memory.max", "4096\n")]), None);
        assert_eq!(
            limit_with("nonsense\n0:\n:::\n\n0::\n", " - \n- cgroup2\n1 2 3 - cgroup2\na b c d e - cgroup\n", &[]),
            None
        );
    }

    #[test]
    fn the_default_is_a_gibibyte_at_most() {
        assert!(default_max_memory() <= MAX_MEMORY);
        assert_eq!((half(3 * GIB / 2), half(u64::MAX)), (3 << 28, usize::MAX / 2));
    }
}
