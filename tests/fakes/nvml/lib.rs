//! Stands in for NVIDIA's management library: the symbols that rbee calls, with NVML's own rules for
//! counts, buffers and errors. Built by the tests with rustc alone, a crate of its own because a
//! library of C functions is nothing but `unsafe`.
//!
//! What it answers is read from the file that `RBEE_FAKE_NVML` names, again whenever that has changed:
//!
//! ```text
//! library ok | fail | no-driver | hang       hang: every call blocks until the file says otherwise
//! gpu UUID NAME TOTAL_MIB USED_MIB UTIL TEMP MILLIWATTS [lost | mig | bare | no-process-utilisation |
//!                                                        hidden-memory | ecc=N | remap-failed | not-ours]
//! xid POSITION NUMBER                        an event, delivered once for each time that it is written
//! process POSITION compute|graphics PID MIB  of the GPU at that position
//! sample POSITION PID SM AGE_MS              a sample of the driver's, that old whenever it is asked for
//! ```
//!
//! `bare` supports nothing but its name and its processes.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::not_unsafe_ptr_arg_deref)]

use std::{
    ffi::{c_char, c_int, c_uint, c_ulonglong, c_void},
    fs,
    os::unix::fs::MetadataExt,
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

const SUCCESS: c_int = 0;
const UNINITIALIZED: c_int = 1;
const INVALID_ARGUMENT: c_int = 2;
const NOT_SUPPORTED: c_int = 3;
const NO_PERMISSION: c_int = 4;
const NOT_FOUND: c_int = 6;
const INSUFFICIENT_SIZE: c_int = 7;
const DRIVER_NOT_LOADED: c_int = 9;
const TIMEOUT: c_int = 10;
const GPU_IS_LOST: c_int = 15;
const UNKNOWN: c_int = 999;

const XID_EVENT: c_ulonglong = 8;
const MIB: u64 = 1 << 20;

#[derive(Default)]
struct Gpu {
    uuid: String,
    name: String,
    total_mib: u64,
    used_mib: u64,
    util: c_uint,
    temperature: c_uint,
    milliwatts: c_uint,
    marks: Vec<String>,
    processes: Vec<(bool, c_uint, u64)>,
    samples: Vec<(c_uint, c_uint, u64)>,
    xids: Vec<u64>,
}

impl Gpu {
    fn is(&self, mark: &str) -> bool {
        self.marks.iter().any(|m| m == mark)
    }

    fn count_of(&self, mark: &str) -> Option<u64> {
        self.marks.iter().find_map(|m| m.strip_prefix(mark)?.parse().ok())
    }
}

#[derive(Default)]
struct State {
    library: String,
    gpus: Vec<Gpu>,
}

type Version = (i64, i64, u64, u64);

struct World {
    version: Option<Version>,
    state: Arc<State>,
    /// Events that were delivered, of those that the file holds, by GPU.
    delivered: Vec<usize>,
    initialized: bool,
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);

fn world() -> MutexGuard<'static, Option<World>> {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    world.get_or_insert_with(|| World {
        version: None,
        state: Arc::default(),
        delivered: Vec::new(),
        initialized: false,
    });
    world
}

fn parse(text: &str) -> State {
    let mut state = State { library: "ok".into(), gpus: Vec::new() };
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let n = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        match words.first().copied() {
            Some("library") => state.library = words[1].into(),
            Some("gpu") => state.gpus.push(Gpu {
                uuid: words[1].into(),
                name: words[2].replace('_', " "),
                total_mib: n(3),
                used_mib: n(4),
                util: n(5) as c_uint,
                temperature: n(6) as c_uint,
                milliwatts: n(7) as c_uint,
                marks: words[8..].iter().map(|word| (*word).to_owned()).collect(),
                ..Gpu::default()
            }),
            Some("process") => {
                let process = (words[2] == "graphics", n(3) as c_uint, n(4));
                state.gpus[n(1) as usize].processes.push(process);
            }
            Some("sample") => {
                let sample = (n(2) as c_uint, n(3) as c_uint, n(4));
                state.gpus[n(1) as usize].samples.push(sample);
            }
            Some("xid") => state.gpus[n(1) as usize].xids.push(n(2)),
            _ => {}
        }
    }
    state
}

/// The state as the file has it now. The lock is not held while the library hangs.
fn state() -> Arc<State> {
    loop {
        let state = newest();
        if state.library != "hang" {
            return state;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn newest() -> Arc<State> {
    let path = std::env::var("RBEE_FAKE_NVML").unwrap_or_default();
    let mut world = world();
    let Some(world) = world.as_mut() else { return Arc::default() };
    let version = fs::metadata(&path).ok().map(|m| (m.mtime(), m.mtime_nsec(), m.ino(), m.size()));
    if version != world.version {
        world.version = version;
        world.state = Arc::new(parse(&fs::read_to_string(&path).unwrap_or_default()));
        world.delivered.clear();
    }
    Arc::clone(&world.state)
}

/// What every call answers first; then the state.
fn enter() -> Result<Arc<State>, c_int> {
    let state = state();
    match state.library.as_str() {
        "fail" => Err(UNKNOWN),
        "no-driver" => Err(DRIVER_NOT_LOADED),
        _ if !world().as_ref().is_some_and(|world| world.initialized) => Err(UNINITIALIZED),
        _ => Ok(state),
    }
}

/// A device is its position and one; null is none.
fn on_gpu(device: *mut c_void, answer: impl FnOnce(&Gpu) -> Result<(), c_int>) -> c_int {
    let asked = enter().and_then(|state| {
        let gpu = state.gpus.get((device as usize).wrapping_sub(1)).ok_or(INVALID_ARGUMENT)?;
        if gpu.is("lost") {
            return Err(GPU_IS_LOST);
        }
        answer(gpu)
    });
    asked.err().unwrap_or(SUCCESS)
}

fn unless_bare<T>(gpu: &Gpu, value: T) -> Result<T, c_int> {
    if gpu.is("bare") { Err(NOT_SUPPORTED) } else { Ok(value) }
}

fn put<T>(place: *mut T, value: T) -> Result<(), c_int> {
    if place.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    unsafe { place.write(value) };
    Ok(())
}

fn put_text(text: &str, place: *mut c_char, length: c_uint) -> Result<(), c_int> {
    if text.len() + 1 > length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), place, text.len());
        place.add(text.len()).write(0);
    }
    Ok(())
}

/// NVML's way of giving a list: a buffer too small is told how large it must be.
fn put_list<T>(items: &[T], count: *mut c_uint, place: *mut T) -> Result<(), c_int> {
    let room = unsafe { count.read() } as usize;
    put(count, items.len() as c_uint)?;
    if items.len() > room || (place.is_null() && !items.is_empty()) {
        return Err(INSUFFICIENT_SIZE);
    }
    if !items.is_empty() {
        unsafe { ptr::copy_nonoverlapping(items.as_ptr(), place, items.len()) };
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_int {
    match state().library.as_str() {
        "fail" => UNKNOWN,
        "no-driver" => DRIVER_NOT_LOADED,
        _ => {
            if let Some(world) = world().as_mut() {
                world.initialized = true;
            }
            SUCCESS
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_int {
    if let Some(world) = world().as_mut() {
        world.initialized = false;
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(_: c_int) -> *const c_char {
    c"fake".as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, length: c_uint) -> c_int {
    enter().and_then(|_| put_text("570.00", text, length)).err().unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_int {
    enter().and_then(|state| put(count, state.gpus.len() as c_uint)).err().unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut *mut c_void) -> c_int {
    let asked = enter().and_then(|state| {
        let gpu = state.gpus.get(index as usize).ok_or(INVALID_ARGUMENT)?;
        if gpu.is("lost") {
            return Err(GPU_IS_LOST);
        }
        if gpu.is("not-ours") {
            return Err(NO_PERMISSION);
        }
        put(device, (index as usize + 1) as *mut c_void)
    });
    asked.err().unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(device: *mut c_void, text: *mut c_char, n: c_uint) -> c_int {
    on_gpu(device, |gpu| put_text(&gpu.uuid, text, n))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(device: *mut c_void, text: *mut c_char, n: c_uint) -> c_int {
    on_gpu(device, |gpu| put_text(&gpu.name, text, n))
}

#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: *mut c_void, memory: *mut Memory) -> c_int {
    on_gpu(device, |gpu| {
        let version = unsafe { (*memory).version };
        if version as usize != (size_of::<Memory>() | (2 << 24)) {
            return Err(INVALID_ARGUMENT);
        }
        let free = (gpu.total_mib - gpu.used_mib) * MIB;
        let (total, used) = (gpu.total_mib * MIB, gpu.used_mib * MIB);
        put(memory, unless_bare(gpu, Memory { version, total, reserved: 0, free, used })?)
    })
}

#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUtilizationRates(
    device: *mut c_void,
    rates: *mut Utilization,
) -> c_int {
    on_gpu(device, |gpu| {
        if gpu.is("mig") {
            return Err(NOT_SUPPORTED);
        }
        put(rates, unless_bare(gpu, Utilization { gpu: gpu.util, memory: 0 })?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperature(
    device: *mut c_void,
    _: c_int,
    degrees: *mut c_uint,
) -> c_int {
    on_gpu(device, |gpu| put(degrees, unless_bare(gpu, gpu.temperature)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerUsage(device: *mut c_void, milliwatts: *mut c_uint) -> c_int {
    on_gpu(device, |gpu| put(milliwatts, unless_bare(gpu, gpu.milliwatts)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigMode(
    device: *mut c_void,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_int {
    on_gpu(device, |gpu| {
        let mode = c_uint::from(gpu.is("mig"));
        put(current, unless_bare(gpu, mode)?)?;
        put(pending, mode)
    })
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProcessInfo {
    pid: c_uint,
    used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

fn processes(
    device: *mut c_void,
    graphics: bool,
    count: *mut c_uint,
    infos: *mut ProcessInfo,
) -> c_int {
    on_gpu(device, |gpu| {
        let hidden = gpu.is("hidden-memory");
        let listed = gpu.processes.iter().filter(|(drawn, ..)| *drawn == graphics);
        let listed: Vec<_> = listed
            .map(|(_, pid, mib)| ProcessInfo {
                pid: *pid,
                used: if hidden { u64::MAX } else { mib * MIB },
                gpu_instance: c_uint::MAX,
                compute_instance: c_uint::MAX,
            })
            .collect();
        put_list(&listed, count, infos)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: *mut c_void,
    count: *mut c_uint,
    infos: *mut ProcessInfo,
) -> c_int {
    processes(device, false, count, infos)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: *mut c_void,
    count: *mut c_uint,
    infos: *mut ProcessInfo,
) -> c_int {
    processes(device, true, count, infos)
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sample {
    pid: c_uint,
    timestamp: c_ulonglong,
    sm: c_uint,
    memory: c_uint,
    encoder: c_uint,
    decoder: c_uint,
}

/// Only what is newer than the caller has seen; nothing newer is NOT_FOUND.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetProcessUtilization(
    device: *mut c_void,
    samples: *mut Sample,
    count: *mut c_uint,
    last_seen_us: c_ulonglong,
) -> c_int {
    on_gpu(device, |gpu| {
        if gpu.is("mig") || gpu.is("no-process-utilisation") {
            return Err(NOT_SUPPORTED);
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros() as u64;
        let all = gpu.samples.iter().map(|&(pid, sm, age_ms)| Sample {
            pid,
            timestamp: now - age_ms * 1000,
            sm,
            memory: 0,
            encoder: 0,
            decoder: 0,
        });
        let newer: Vec<_> = all.filter(|sample| sample.timestamp > last_seen_us).collect();
        if newer.is_empty() {
            return Err(NOT_FOUND);
        }
        put_list(&newer, count, samples)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: *mut c_void,
    _: c_int,
    _: c_int,
    errors: *mut c_ulonglong,
) -> c_int {
    on_gpu(device, |gpu| put(errors, gpu.count_of("ecc=").ok_or(NOT_SUPPORTED)?))
}

#[repr(C)]
pub struct FieldValue {
    field: c_uint,
    scope: c_uint,
    timestamp: i64,
    latency: i64,
    value_type: c_int,
    result: c_int,
    value: u64,
}

/// Field 145 is whether rows of the memory could not be replaced.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetFieldValues(
    device: *mut c_void,
    count: c_int,
    values: *mut FieldValue,
) -> c_int {
    on_gpu(device, |gpu| {
        for at in 0..count as usize {
            let value = unsafe { &mut *values.add(at) };
            value.value_type = 1;
            value.result = if value.field == 145 { SUCCESS } else { NOT_SUPPORTED };
            value.value = u64::from(gpu.is("remap-failed"));
        }
        unless_bare(gpu, ())
    })
}

#[repr(C)]
pub struct EventData {
    device: *mut c_void,
    kind: c_ulonglong,
    data: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// A set is a box that holds the device that was registered with it.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetCreate(set: *mut *mut c_void) -> c_int {
    let place = Box::into_raw(Box::new(ptr::null_mut::<c_void>()));
    enter().and_then(|_| put(set, place.cast())).err().unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: *mut c_void) -> c_int {
    drop(unsafe { Box::from_raw(set.cast::<*mut c_void>()) });
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    device: *mut c_void,
    kinds: c_ulonglong,
    set: *mut c_void,
) -> c_int {
    on_gpu(device, |gpu| {
        if kinds != XID_EVENT {
            return Err(INVALID_ARGUMENT);
        }
        put(set.cast(), unless_bare(gpu, device)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait_v2(
    set: *mut c_void,
    data: *mut EventData,
    timeout_ms: c_uint,
) -> c_int {
    let device = unsafe { set.cast::<*mut c_void>().read() };
    on_gpu(device, |gpu| {
        let position = device as usize - 1;
        let mut world = world();
        let delivered = &mut world.as_mut().ok_or(UNKNOWN)?.delivered;
        delivered.resize(delivered.len().max(position + 1), 0);
        let Some(xid) = gpu.xids.get(delivered[position]) else {
            thread::sleep(Duration::from_millis(u64::from(timeout_ms)));
            return Err(TIMEOUT);
        };
        delivered[position] += 1;
        let (gpu_instance, compute_instance) = (0, 0);
        put(data, EventData { device, kind: XID_EVENT, data: *xid, gpu_instance, compute_instance })
    })
}
