/** What the agent tells Prometheus, and those who ask whether it is well. docs/OPERATIONS.md has every name. */
import type { AgentStatus, GroupStatus, VolumeStatus } from '../proto/control.js';
import { LATENCY_BOUNDS_NS, type Latency } from '../native/index.js';
import { errorCounts } from '../service/error_counts.js';
import { Metrics, type HistogramSample, type Sample } from '../service/metrics.js';
import type { Check } from '../service/metrics_server.js';

const P = 'afterimage_agent_';
const NS_PER_S = 1e9;
/** Of a group or volume: each is a series that is 0 or 1. */
const STATES = ['protected', 'initial-sync', 'resync', 'tracking', 'disconnected', 'failed'];

/** Of one volume, since the agent's start. One that is not captured yet has no counts. */
export interface VolumeLatencies {
  group: string;
  volume: string;
  read: Latency;
  write: Latency;
  flush: Latency;
  /** Requests that the backing failed. */
  errors: bigint;
}
export interface AgentLook {
  status: AgentStatus;
  volumes: VolumeLatencies[];
  /** Of the host's certificate, milliseconds since 1970; null: it has none. */
  certificateUntilMs: number | null;
}

export function agentMetrics(take: () => Promise<AgentLook>): Metrics<AgentLook> {
  const metrics = new Metrics(take);
  const ofGroups =
    (value: (group: GroupStatus) => bigint | number) =>
    ({ status }: AgentLook): Sample[] =>
      status.groups.map((group) => ({ labels: { group: group.name }, value: Number(value(group)) }));
  const ofVolumes =
    (value: (volume: VolumeStatus) => bigint | number) =>
    ({ status }: AgentLook): Sample[] =>
      status.groups.flatMap((group) =>
        group.volumes.map((volume) => ({
          labels: { group: group.name, volume: volume.name },
          value: Number(value(volume)),
        })),
      );
  const seconds = (ns: bigint): number => Number(ns) / NS_PER_S;
  const G = ['group'];
  const V = ['group', 'volume'];

  metrics.gauge(
    `${P}info`,
    'Always 1; its labels say who this is.',
    ['version', 'host', 'receiver'],
    ({ status }) => [
      { labels: { version: status.version, host: status.host, receiver: status.receiver }, value: 1 },
    ],
  );
  metrics.gauge(`${P}group_state`, 'Whether the group is in that state.', ['group', 'state'], ({ status }) =>
    status.groups.flatMap(({ name, state }) =>
      STATES.map((one) => ({ labels: { group: name, state: one }, value: one === state ? 1 : 0 })),
    ),
  );
  metrics.gauge(
    `${P}rpo_lag_seconds`,
    'Age of the oldest acknowledged write that is not durable at the receiver.',
    G,
    ofGroups(({ rpoLagNs }) => seconds(rpoLagNs)),
  );
  metrics.gauge(
    `${P}captured_lsn`,
    'Last LSN captured.',
    G,
    ofGroups(({ capturedLsn }) => capturedLsn),
  );
  metrics.gauge(
    `${P}shipped_lsn`,
    'Last LSN sent.',
    G,
    ofGroups(({ shippedLsn }) => shippedLsn),
  );
  metrics.gauge(
    `${P}durable_lsn`,
    'Last LSN durable at the receiver.',
    G,
    ofGroups(({ durableLsn }) => durableLsn),
  );
  metrics.gauge(
    `${P}generation`,
    'Generation of the stream.',
    G,
    ofGroups(({ generation }) => generation),
  );
  metrics.counter(
    `${P}captured_bytes_total`,
    'Bytes captured.',
    G,
    ofGroups(({ capturedBytes }) => capturedBytes),
  );
  metrics.counter(
    `${P}shipped_bytes_total`,
    'Bytes sent to the receiver, compressed.',
    G,
    ofGroups(({ shippedBytes }) => shippedBytes),
  );
  metrics.counter(
    `${P}captured_records_total`,
    'Records captured.',
    G,
    ofGroups(({ records }) => records),
  );
  metrics.gauge(
    `${P}ring_size_bytes`,
    'Size of the capture ring.',
    G,
    ofGroups(({ ringBytes }) => ringBytes),
  );
  metrics.gauge(
    `${P}ring_used_bytes`,
    'In use of the capture ring.',
    G,
    ofGroups(({ ringUsedBytes }) => ringUsedBytes),
  );
  metrics.gauge(
    `${P}spool_size_bytes`,
    'Size of the spool; 0: there is none.',
    G,
    ofGroups(({ spoolBytes }) => spoolBytes),
  );
  metrics.gauge(
    `${P}spool_used_bytes`,
    'In use of the spool.',
    G,
    ofGroups(({ spoolUsedBytes }) => spoolUsedBytes),
  );

  metrics.counter(
    `${P}volume_reads_total`,
    'Reads.',
    V,
    ofVolumes(({ reads }) => reads),
  );
  metrics.counter(
    `${P}volume_read_bytes_total`,
    'Bytes read.',
    V,
    ofVolumes(({ readBytes }) => readBytes),
  );
  metrics.counter(
    `${P}volume_writes_total`,
    'Writes, zeroes and trims.',
    V,
    ofVolumes(({ writes }) => writes),
  );
  metrics.counter(
    `${P}volume_write_bytes_total`,
    'Bytes written.',
    V,
    ofVolumes(({ writeBytes }) => writeBytes),
  );
  metrics.gauge(
    `${P}volume_size_bytes`,
    'Size of the volume.',
    V,
    ofVolumes(({ size }) => size),
  );
  metrics.gauge(
    `${P}volume_doubt_bytes`,
    'Marked in the dirty log: what would be compared after a crash now.',
    V,
    ofVolumes(({ doubtBytes }) => doubtBytes),
  );
  metrics.gauge(
    `${P}volume_sync_remaining_bytes`,
    'What a sync or resync under way has still to read.',
    V,
    ofVolumes(({ syncBytesTotal, syncBytesDone }) =>
      syncBytesTotal > syncBytesDone ? syncBytesTotal - syncBytesDone : 0n,
    ),
  );
  metrics.counter(`${P}volume_backing_errors_total`, 'Requests that the backing failed.', V, ({ volumes }) =>
    volumes.map(({ group, volume, errors }) => ({ labels: { group, volume }, value: Number(errors) })),
  );
  metrics.histogram(
    `${P}io_duration_seconds`,
    'How long requests of production took, from the front end to the backing and back.',
    LATENCY_BOUNDS_NS.map((ns) => ns / NS_PER_S),
    ({ volumes }) => volumes.filter(({ write }) => write.counts.length > 0).flatMap(latencySamples),
  );
  metrics.gauge(
    `${P}certificate_expiry_timestamp_seconds`,
    'When the certificate of this host ends.',
    [],
    ({ certificateUntilMs }) =>
      certificateUntilMs === null ? [] : [{ labels: {}, value: certificateUntilMs / 1000 }],
  );
  metrics.counter(`${P}errors_total`, 'Warnings and errors in the log, by code.', ['code'], () =>
    [...errorCounts()].map(([code, value]) => ({ labels: { code }, value })),
  );
  return metrics;
}

/** Ready: every group is started, and every volume of it served. */
export function readiness({ groups }: Pick<AgentStatus, 'groups'>): Check[] {
  return groups.map(({ name, state, detail }) => ({
    name: `group ${name}`,
    fault: state === 'failed' ? detail || 'it is not served' : null,
  }));
}

function latencySamples({ group, volume, read, write, flush }: VolumeLatencies): HistogramSample[] {
  return Object.entries({ read, write, flush }).map(([operation, { counts, sumNs }]) => ({
    labels: { group, volume, operation },
    counts: counts.map(Number),
    sum: Number(sumNs) / NS_PER_S,
  }));
}
