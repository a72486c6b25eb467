/** What the receiver tells Prometheus, and those who ask whether it is well. docs/OPERATIONS.md has every name. */
import type { GroupStatus, ReceiverStatus, ScrubStatus } from '../proto/control.js';
import { errorCounts } from '../service/error_counts.js';
import { Metrics, type Sample } from '../service/metrics.js';
import type { Check } from '../service/metrics_server.js';

const P = 'afterimage_receiver_';
const NS_PER_S = 1e9;
const STATES = ['protected', 'initial-sync', 'resync', 'tracking', 'disconnected'];
/** A shorter window says nothing of a rate. */
const WINDOW_S_MIN = 60;

export interface ReceiverLook {
  status: ReceiverStatus;
  /** Taken in since the receiver's start, by member. */
  receivedBytes: ReadonlyMap<string, bigint>;
  /** Hosts and operators that may connect, and their connections now. */
  identities: { host: number; operator: number };
  connections: { host: number; operator: number; stranger: number };
}

export function receiverMetrics(take: () => Promise<ReceiverLook>): Metrics<ReceiverLook> {
  const metrics = new Metrics(take);
  const M = ['group', 'host', 'member'];
  const labelsOf = ({ name, host, member }: Pick<GroupStatus, 'name' | 'host' | 'member'>) => ({
    ...{ group: name, host, member },
  });
  /** Null: there is nothing to be said. */
  const ofMembers =
    (value: (member: GroupStatus, look: ReceiverLook) => bigint | number | null) =>
    (look: ReceiverLook): Sample[] =>
      look.status.groups.flatMap((member) => {
        const said = value(member, look);
        return said === null ? [] : [{ labels: labelsOf(member), value: Number(said) }];
      });
  const ofScrubs =
    (value: (scrub: ScrubStatus) => bigint | number | null) =>
    ({ status }: ReceiverLook): Sample[] =>
      status.scrubs.flatMap((scrub) => {
        const { group, host, member } = scrub;
        const said = value(scrub);
        return said === null ? [] : [{ labels: { group, host, member }, value: Number(said) }];
      });
  const seconds = (ns: bigint): number => Number(ns) / NS_PER_S;

  metrics.gauge(`${P}info`, 'Always 1; its label says which version this is.', ['version'], ({ status }) => [
    { labels: { version: status.version }, value: 1 },
  ]);
  metrics.gauge(`${P}store_free_bytes`, 'Free in the file system of the store.', [], ({ status }) => [
    { labels: {}, value: Number(status.storeBytesFree) },
  ]);
  metrics.gauge(`${P}exports`, 'Open exports.', [], ({ status }) => [
    { labels: {}, value: Number(status.exports) },
  ]);
  metrics.gauge(`${P}member_state`, 'Whether the member is in that state.', [...M, 'state'], ({ status }) =>
    status.groups.flatMap((member) =>
      STATES.map((state) => ({
        labels: { ...labelsOf(member), state },
        value: state === member.state ? 1 : 0,
      })),
    ),
  );
  metrics.gauge(
    `${P}rpo_lag_seconds`,
    'Age of the oldest acknowledged write that is not durable here; it grows while the agent is away.',
    M,
    ofMembers(({ rpoLagNs }) => seconds(rpoLagNs)),
  );
  metrics.gauge(
    `${P}captured_lsn`,
    'Last LSN that the agent has told of.',
    M,
    ofMembers(({ capturedLsn }) => capturedLsn),
  );
  metrics.gauge(
    `${P}durable_lsn`,
    'Last LSN on stable storage here.',
    M,
    ofMembers(({ durableLsn }) => durableLsn),
  );
  metrics.gauge(
    `${P}oldest_lsn`,
    'Oldest point that is held.',
    M,
    ofMembers(({ oldestLsn }) => oldestLsn),
  );
  metrics.gauge(
    `${P}generation`,
    'Generation of the stream.',
    M,
    ofMembers(({ generation }) => generation),
  );
  metrics.counter(
    `${P}received_bytes_total`,
    'Bytes taken in, compressed.',
    M,
    ofMembers(({ member }, { receivedBytes }) => receivedBytes.get(member) ?? 0n),
  );
  metrics.gauge(
    `${P}journal_bytes`,
    'Size of the journal.',
    M,
    ofMembers(({ journalBytes }) => journalBytes),
  );
  metrics.gauge(
    `${P}journal_limit_bytes`,
    'What the journal may have at most, where the configuration says so.',
    M,
    ofMembers(({ journalBytesMax }) => (journalBytesMax === 0n ? null : journalBytesMax)),
  );
  metrics.gauge(
    `${P}window_held_seconds`,
    'Recoverable window that is really held.',
    M,
    ofMembers(heldSeconds),
  );
  metrics.gauge(
    `${P}window_wanted_seconds`,
    'Window that the configuration wants.',
    M,
    ofMembers(({ retentionWindowNs }) => seconds(retentionWindowNs)),
  );
  metrics.gauge(
    `${P}window_forecast_seconds`,
    'Window that the journal could hold at its present rate, with its limit or what is free.',
    M,
    ofMembers((member, { status }) => forecastSeconds(member, status.storeBytesFree)),
  );
  metrics.gauge(
    `${P}scrub_finished_timestamp_seconds`,
    'When everything was read again last.',
    M,
    ofScrubs(({ finishedNs }) => (finishedNs === 0n ? null : seconds(finishedNs))),
  );
  metrics.gauge(
    `${P}scrub_damaged`,
    'Segments and blocks that the last scrub found damaged, or the one under way.',
    M,
    ofScrubs(({ damaged }) => damaged),
  );
  metrics.gauge(`${P}identities`, 'Who may connect.', ['kind'], ({ identities }) =>
    Object.entries(identities).map(([kind, value]) => ({ labels: { kind }, value })),
  );
  metrics.gauge(`${P}connections`, 'Connections by TLS.', ['kind'], ({ connections }) =>
    Object.entries(connections).map(([kind, value]) => ({ labels: { kind }, value })),
  );
  metrics.counter(`${P}errors_total`, 'Warnings and errors in the log, by code.', ['code'], () =>
    [...errorCounts()].map(([code, value]) => ({ labels: { code }, value })),
  );
  return metrics;
}

/** Ready: every journal is open and takes what comes. */
export function readiness(faults: readonly { name: string; fault: string | null }[]): Check[] {
  return faults.map(({ name, fault }) => ({ name: `journal ${name}`, fault }));
}

/** What lies between the oldest point that is held and the newest, seconds. */
function heldSeconds({
  windowBeginNs,
  windowEndNs,
}: Pick<GroupStatus, 'windowBeginNs' | 'windowEndNs'>): number {
  return windowEndNs > windowBeginNs ? Number(windowEndNs - windowBeginNs) / NS_PER_S : 0;
}

/** Null: what is held is too little to tell. */
export function forecastSeconds(
  member: Pick<GroupStatus, 'windowBeginNs' | 'windowEndNs' | 'journalBytes' | 'journalBytesMax'>,
  freeBytes: bigint,
): number | null {
  const held = heldSeconds(member);
  if (held < WINDOW_S_MIN || member.journalBytes === 0n) return null;
  const room = member.journalBytes + freeBytes;
  const limit = member.journalBytesMax > 0n && member.journalBytesMax < room ? member.journalBytesMax : room;
  return (Number(limit) / Number(member.journalBytes)) * held;
}
