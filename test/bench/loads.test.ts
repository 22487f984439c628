// What dnsperf and wrk say, read.
import test from "ava";
import { latenciesOf, outcomeOf } from "../../bench/dnsperf.ts";
import { percentile } from "../../bench/statistics.ts";
import { sampleOf } from "../../bench/wrk.ts";

const DNSPERF = `DNS Performance Testing Tool
Version 2.10.0

[Status] Sending queries (to 127.0.0.1:5302)
> NOERROR name-0.web A 0.011367
> NOERROR name-1.web A 0.009505
> T name-2.web A
[Status] Testing complete (end of file)

Statistics:

  Queries sent:         3
  Queries completed:    2 (66.67%)
  Queries lost:         1 (33.33%)

  Response codes:       NOERROR 2 (100.00%)
  Queries per second:   4734.624308
`;

test("dnsperf says how many queries were answered a second, and how many were lost", (t) => {
  t.deepEqual(outcomeOf(DNSPERF), { perSecond: 4734.624308, lost: 1 });
});

test("answers that are errors are no figure", (t) => {
  const text = DNSPERF.replace("NOERROR 2 (100.00%)", "NOERROR 1 (50.00%), NXDOMAIN 1 (50.00%)");
  t.throws(() => outcomeOf(text), { message: /1 of 2 DNS answers were errors/ });
  t.throws(() => outcomeOf(DNSPERF.replace("NOERROR 2", "REFUSED 2")), { message: /2 of 2/ });
});

test("a report of something else is no figure", (t) => {
  t.throws(() => outcomeOf("connection refused"), { message: /dnsperf has no .* in: connection refused/ });
});

test("latencies are in milliseconds, of answers only", (t) => {
  t.deepEqual(latenciesOf(DNSPERF), [11.367, 9.505]);
});

const PERCENTILES: [values: number[], percent: number, found: number][] = [
  [[7], 99, 7],
  [[3, 1, 2], 50, 2],
  [Array.from({ length: 100 }, (_, i) => i + 1), 99, 99],
  [[10, 9, 100], 99, 100],
];
for (const [values, percent, found] of PERCENTILES) {
  test(`${percent} % of ${values.length} values are not above ${found}`, (t) =>
    t.is(percentile(values, percent), found));
}

const WRK = `Running 4s test @ http://192.0.2.11:8080/
  1 threads and 32 connections
  Latency Distribution
     50%  820.00us
     75%    1.30ms
     90%    2.00ms
     99%    1.02s
  7028 requests in 4.00s, 1.10MB read
Requests/sec:   1757.00
`;

test("wrk says requests a second, and latencies in whatever unit", (t) => {
  t.deepEqual(sampleOf(WRK), { requests: 1757, p50: 0.82, p99: 1020, failed: 0 });
});

test("what failed is counted, whatever failed", (t) => {
  const text = `${WRK}  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n`;
  t.is(sampleOf(text).failed, 15);
});
