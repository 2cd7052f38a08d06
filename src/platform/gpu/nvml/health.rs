//! What NVML tells about a GPU that is broken, or about to be: fatal Xids, as they happen; memory errors
//! and rows that cannot be replaced any more, now and then.

use nvml_wrapper::{
    Device, Nvml,
    bitmasks::event::EventTypes,
    enum_wrappers::device::{EccCounter, MemoryError},
    enums::{device::SampleValue, event::XidError},
    event::EventSet,
    structs::device::FieldId,
    sys_exports::field_id::NVML_FI_DEV_REMAPPED_FAILURE,
};

/// Counters of memory errors are read at each such many readings.
const LOOK_EVERY: u32 = 10;

/// Events that are taken at one reading.
const EVENTS_MAX: usize = 64;

/// Xids after which a GPU still serves: faults of the program that ran on it (13, 31, 43, 45, 68, 109),
/// and memory errors that were corrected, contained or noted (63, 92, 94). All others need an operator.
const NOT_FATAL: [u64; 9] = [13, 31, 43, 45, 63, 68, 92, 94, 109];

/// Watches over one GPU, from one opening of the library to its close.
#[derive(Default)]
pub(super) struct Watchman<'a> {
    events: Option<EventSet<'a>>,
    readings: u32,
    memory_fault: Option<String>,
}

impl<'a> Watchman<'a> {
    /// What is known to be wrong with it. `fatal_xid` is the last one there was, and stays. Never waits.
    pub(super) fn look(
        &mut self,
        nvml: &'a Nvml,
        device: &Device<'a>,
        fatal_xid: &mut Option<u64>,
    ) -> Option<String> {
        if self.readings == 0 {
            self.events = listen(nvml, device);
        }
        self.take_events(fatal_xid);
        if self.readings.is_multiple_of(LOOK_EVERY) {
            self.memory_fault = memory_fault(device);
        }
        self.readings = self.readings.wrapping_add(1).max(1);
        let xid = fatal_xid.map(|xid| format!("fatal error: Xid {xid}"));
        xid.or_else(|| self.memory_fault.clone())
    }

    fn take_events(&self, fatal_xid: &mut Option<u64>) {
        let Some(events) = &self.events else { return };
        for _ in 0..EVENTS_MAX {
            let Ok(event) = events.wait(0) else { return };
            if let Some(XidError::Value(xid)) = event.event_data
                && !NOT_FATAL.contains(&xid)
            {
                *fatal_xid = Some(xid);
            }
        }
    }
}

/// `None` where the driver has no such events.
fn listen<'a>(nvml: &'a Nvml, device: &Device<'a>) -> Option<EventSet<'a>> {
    let wanted = EventTypes::CRITICAL_XID_ERROR;
    device.register_events(wanted, nvml.create_event_set().ok()?).ok()
}

fn memory_fault(device: &Device<'_>) -> Option<String> {
    let failed = device.field_values_for(&[FieldId(NVML_FI_DEV_REMAPPED_FAILURE)]).ok();
    let failed = failed.and_then(|values| values.into_iter().next()?.ok()?.value.ok());
    if failed.is_some_and(|value| !is_zero(&value)) {
        return Some("rows of its memory failed and cannot be replaced".into());
    }
    let errors = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok()?;
    (errors > 0).then(|| format!("{errors} uncorrected memory errors since its driver was loaded"))
}

fn is_zero(value: &SampleValue) -> bool {
    match *value {
        SampleValue::F64(n) => n == 0.0,
        SampleValue::U32(n) => n == 0,
        SampleValue::U64(n) => n == 0,
        SampleValue::I64(n) => n == 0,
    }
}
