//! What a group has read from and written to each block device.

use std::collections::BTreeMap;
use std::fs;

use super::Cgroups;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceIo {
    pub major: u32,
    pub minor: u32,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

type Devices = BTreeMap<(u32, u32), DeviceIo>;

impl Cgroups {
    pub fn device_io(&self, group: &str) -> Vec<DeviceIo> {
        let file = |controller: &str, name: &str| {
            let directory = self.directory(controller, group);
            directory.and_then(|d| fs::read_to_string(d.join(name)).ok()).unwrap_or_default()
        };
        let mut devices = Devices::new();
        if self.is_unified() {
            unified(&file("io", "io.stat"), &mut devices);
        } else {
            let bytes = file("blkio", "blkio.throttle.io_service_bytes_recursive");
            legacy(&bytes, &mut devices, |d| (&mut d.read_bytes, &mut d.written_bytes));
            let operations = file("blkio", "blkio.throttle.io_serviced_recursive");
            legacy(&operations, &mut devices, |d| (&mut d.reads, &mut d.writes));
        }
        devices.into_values().collect()
    }
}

fn device<'a>(devices: &'a mut Devices, number: &str) -> Option<&'a mut DeviceIo> {
    let (major, minor) = number.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    Some(devices.entry((major, minor)).or_insert_with(|| DeviceIo { major, minor, ..DeviceIo::default() }))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn unified(text: &str, devices: &mut Devices) {
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(device) = words.next().and_then(|number| device(devices, number)) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => device.read_bytes = value,
                "wbytes" => device.written_bytes = value,
                "rios" => device.reads = value,
                "wios" => device.writes = value,
                _ => {}
            }
        }
    }
}

/// `8:0 Read 4096`, and lines of other operations and of sums.
fn legacy(text: &str, devices: &mut Devices, fields: fn(&mut DeviceIo) -> (&mut u64, &mut u64)) {
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [number, operation @ ("Read" | "Write"), value] = words.as_slice() else { continue };
        let Some(device) = device(devices, number) else { continue };
        let (read, written) = fields(device);
        *(if *operation == "Read" { read } else { written }) = value.parse().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_say_the_same() {
        let expected =
            [DeviceIo { major: 8, minor: 16, read_bytes: 4096, written_bytes: 512, reads: 2, writes: 1 }];
        let mut devices = Devices::new();
        unified("8:16 rbytes=4096 wbytes=512 rios=2 wios=1 dbytes=9 dios=9\nnonsense\n", &mut devices);
        assert_eq!(devices.into_values().collect::<Vec<_>>(), expected);
        let mut devices = Devices::new();
        let (bytes, operations) =
            ("8:16 Read 4096\n8:16 Write 512\n8:16 Sync 7\nTotal 4608\n", "8:16 Read 2\n8:16 Write 1\n");
        legacy(bytes, &mut devices, |d| (&mut d.read_bytes, &mut d.written_bytes));
        legacy(operations, &mut devices, |d| (&mut d.reads, &mut d.writes));
        assert_eq!(devices.into_values().collect::<Vec<_>>(), expected);
    }
}
