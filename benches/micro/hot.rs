//! Times every case of the hot path: `cargo bench -p benches`. Names of cases may follow.
//!
//! For a decision, take instruction counts first (`sternline-bench callgrind`): they do
//! not depend on what else the machine does.

use benches::hot::CASES;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn hot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot");
    for case in CASES {
        group.throughput(if case.bytes > 0 {
            Throughput::Bytes(case.bytes)
        } else {
            Throughput::Elements(case.units)
        });
        let mut repeat = case.prepare();
        group.bench_function(case.name, |bencher| bencher.iter(&mut repeat));
    }
    group.finish();
}

criterion_group!(micro, hot);
criterion_main!(micro);
