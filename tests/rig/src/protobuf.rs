//! Prometheus' protobuf exposition, as far as the rig's services need it: counters and native histograms.
//!
//! Source: `io.prometheus.client` (metrics.proto of prometheus/client_model), length-delimited `MetricFamily` messages;
//! only this form carries native histograms.

use std::collections::BTreeMap;

/// What a server answers in, and what it must have been asked for.
pub(crate) const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

const COUNTER: u64 = 0;
const HISTOGRAM: u64 = 4;

/// A series of a family: its labels and what it counted.
pub(crate) struct Series<'a> {
    pub labels: Vec<(&'a str, String)>,
    pub value: Value<'a>,
}

pub(crate) enum Value<'a> {
    Counter(u64),
    /// Counts by the index of their bucket, `(2^((i-1) 2^-schema), 2^(i 2^-schema)]`.
    Native {
        schema: i32,
        sum: f64,
        counts: &'a BTreeMap<i32, u64>,
    },
}

/// One family, as it stands in the stream; all its series are of one kind.
pub(crate) fn family(name: &str, series: &[Series<'_>]) -> Vec<u8> {
    let kind = match series.first().map(|series| &series.value) {
        Some(Value::Native { .. }) => HISTOGRAM,
        Some(Value::Counter(_)) | None => COUNTER,
    };
    let mut message = Message::default();
    message.bytes(1, name.as_bytes());
    message.number(3, kind);
    series.iter().for_each(|series| message.bytes(4, &metric(series)));
    let mut delimited = Message::default();
    delimited.varint(message.0.len() as u64);
    [delimited.0, message.0].concat()
}

fn metric(series: &Series<'_>) -> Vec<u8> {
    let mut message = Message::default();
    for (name, value) in &series.labels {
        let mut label = Message::default();
        label.bytes(1, name.as_bytes());
        label.bytes(2, value.as_bytes());
        message.bytes(1, &label.0);
    }
    match &series.value {
        Value::Counter(count) => {
            let mut counter = Message::default();
            counter.double(1, *count as f64);
            message.bytes(3, &counter.0);
        }
        Value::Native { schema, sum, counts } => message.bytes(7, &histogram(*schema, *sum, counts)),
    }
    message.0
}

/// Spans of neighbouring buckets, and each count as the difference to the one before.
fn histogram(schema: i32, sum: f64, counts: &BTreeMap<i32, u64>) -> Vec<u8> {
    let mut message = Message::default();
    message.number(1, counts.values().sum());
    message.double(2, sum);
    message.signed(5, schema.into());
    message.double(6, 1e-9);
    message.number(7, 0);
    let (mut next, mut before) = (0, 0i64);
    for (at, (index, _)) in counts.iter().enumerate() {
        let mut span = Message::default();
        span.signed(1, i64::from(if at == 0 { *index } else { *index - next }));
        span.number(2, 1);
        message.bytes(12, &span.0);
        next = index + 1;
    }
    for count in counts.values() {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        message.signed(13, count - before);
        before = count;
    }
    message.0
}

/// Protocol Buffers' wire format: a key of field and kind before each value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    /// ZigZag: small negative numbers stay short.
    fn signed(&mut self, field: u64, value: i64) {
        self.number(field, ((value << 1) ^ (value >> 63)) as u64);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }
}
