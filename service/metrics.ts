/**
 * What a daemon tells Prometheus: values that are looked up when somebody asks, all of one look. Names and units as Prometheus wants
 * them: base units, `_total` for what only grows. Labels are names of the configuration or of the catalog, which bound them.
 */
import { collectDefaultMetrics, Counter, Gauge, Registry, type Metric } from 'prom-client';

export interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
}
export interface HistogramSample {
  labels: Readonly<Record<string, string>>;
  /** Of each bucket alone; the last one has no bound. */
  counts: readonly number[];
  sum: number;
}

/** Gauges of prom-client's that have the name of a counter; each has another metric beside it that says more. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

/** `Look`: what all metrics are made of. */
export class Metrics<Look> {
  private readonly registry = new Registry();
  private look: Look | null = null;

  constructor(private readonly take: () => Promise<Look>) {
    collectDefaultMetrics({ register: this.registry });
    for (const name of MISNAMED) this.registry.removeSingleMetric(name);
  }

  gauge(name: string, help: string, labels: readonly string[], samples: (look: Look) => Sample[]): void {
    const gauge: Gauge = new Gauge({
      ...{ name, help, labelNames: [...labels], registers: [this.registry] },
      collect: () => {
        gauge.reset(); // what is gone is told no more
        for (const { labels, value } of this.samples(samples)) gauge.set(labels, value);
      },
    });
  }

  /** Its samples never fall while the daemon runs. */
  counter(name: string, help: string, labels: readonly string[], samples: (look: Look) => Sample[]): void {
    const counter: Counter = new Counter({
      ...{ name, help, labelNames: [...labels], registers: [this.registry] },
      collect: () => {
        counter.reset();
        for (const { labels, value } of this.samples(samples)) counter.inc(labels, value);
      },
    });
  }

  /** Of counts that were made elsewhere. `bounds`: of all buckets but the last, ascending. */
  histogram(
    name: string,
    help: string,
    bounds: readonly number[],
    samples: (look: Look) => HistogramSample[],
  ): void {
    const get = () =>
      Promise.resolve({
        ...{ name, help, type: 'histogram', aggregator: 'sum' },
        values: this.samples(samples).flatMap((sample) => histogramValues(name, bounds, sample)),
      });
    // prom-client's own counts for itself; of a metric its registry wants the name, and what get() gives.
    this.registry.registerMetric({ name, get, reset: () => undefined } as unknown as Metric);
  }

  /** In the text format of Prometheus, version 0.0.4. */
  async text(): Promise<string> {
    this.look = await this.take();
    return this.registry.metrics();
  }

  private samples<S>(of: (look: Look) => S[]): S[] {
    return this.look === null ? [] : of(this.look);
  }
}

export const TEXT_FORMAT = Registry.PROMETHEUS_CONTENT_TYPE;

function histogramValues(name: string, bounds: readonly number[], { labels, counts, sum }: HistogramSample) {
  let count = 0;
  const buckets = counts.map((ofBucket, at) => {
    count += ofBucket;
    const le = bounds[at] ?? '+Inf';
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: count },
  ];
}
