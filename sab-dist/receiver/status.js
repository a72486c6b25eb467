import { freeBytes } from './store_room.js';
import { readHistory, spansOf } from './timeline.js';
export async function receiverStatus(parts) {
    const { version, listen, store, catalog, members, exports } = parts;
    const storeBytesFree = await freeBytes(store.directory);
    members.refreshAll();
    return {
        version,
        store: store.directory,
        storeBytesFree,
        listen,
        groups: catalog.members
            .groups()
            .flatMap((group) => catalog.members.members(group.uuid).map((row) => memberStatus(parts, group, row))),
        exports: BigInt(exports.count),
        scrubs: catalog.members
            .groups()
            .flatMap((group) => catalog.members.members(group.uuid).map((row) => scrubStatus(parts, group, row))),
    };
}
function memberStatus({ catalog, members, retention, nowNs }, group, row) {
    const member = members.get(row.uuid);
    const heartbeat = member?.heartbeat ?? null;
    const spans = spansOf(readHistory(catalog, row.uuid));
    const ordered = spans.filter(({ grade }) => grade === 'ordered');
    const { state, detail } = stateOf(member, members.fault(row.uuid) ?? '', spans);
    const totals = catalog.segments.totals(row.uuid);
    const { windowNs, floorNs, bytesMax } = retention.settings(group.name);
    return {
        name: group.name,
        uuid: group.uuid,
        member: row.uuid,
        host: row.host,
        state,
        detail,
        generation: catalog.generations.newest(row.uuid)?.generation ?? 0n,
        capturedLsn: heartbeat?.capturedLsn ?? 0n,
        shippedLsn: heartbeat?.shippedLsn ?? 0n,
        durableLsn: member?.journal.durableLsn ?? row.ackedLsn,
        rpoLagNs: lagNs(heartbeat, row.coverage.timeNs, nowNs),
        rpoLagP50Ns: 0n,
        rpoLagP99Ns: 0n,
        ringUsedBytes: heartbeat?.ringUsedBytes ?? 0n,
        ringBytes: heartbeat?.ringBytes ?? 0n,
        capturedBytes: 0n,
        shippedBytes: 0n,
        journalBytes: totals.bytes,
        windowBeginNs: ordered[0]?.beginNs ?? 0n,
        windowEndNs: ordered.at(-1)?.endNs ?? 0n,
        throughputBytesPerSecond: member?.received.bytesPerSecond() ?? 0n,
        records: totals.records,
        oldestLsn: spans.find(({ grade }) => grade !== 'gap')?.firstLsn ?? 0n,
        retentionWindowNs: windowNs,
        retentionFloorNs: floorNs,
        journalBytesMax: bytesMax ?? 0n,
        retentionHeldBy: retention.heldBy(row.uuid),
        volumes: catalog.volumes.volumes(row.uuid).map((volume) => volumeStatus(catalog, volume, state)),
    };
}
function scrubStatus({ catalog, scrub: { step } }, { name }, { uuid, host }) {
    const isPresent = step?.member === uuid;
    const last = catalog.scrubs.last(uuid);
    return {
        group: name,
        member: uuid,
        host,
        bytesDone: isPresent ? step.bytesDone : 0n,
        bytesTotal: isPresent ? step.bytesTotal : 0n,
        finishedNs: last?.finishedNs ?? 0n,
        damaged: isPresent ? step.damaged : (last?.damaged ?? 0n),
    };
}
function volumeStatus(catalog, volume, state) {
    const generation = catalog.generations.newest(volume.member);
    const present = generation === null
        ? undefined
        : catalog.generations
            .volumes(volume.member, generation.generation)
            .find(({ number }) => number === volume.number);
    const isSynced = present !== undefined && present.orderedLsn !== null;
    const isComplete = volume.baseState === 'BASE_COMPLETE';
    const syncing = isComplete ? 'resync' : 'initial-sync';
    return {
        name: volume.name,
        uuid: volume.uuid,
        size: volume.size,
        state: state === 'disconnected' || state === 'tracking' ? state : isSynced ? 'protected' : syncing,
        device: '',
        backing: '',
        // How far a resync is only the agent knows.
        syncBytesDone: isComplete ? volume.size : volume.syncOffset,
        syncBytesTotal: volume.size,
        writeBytes: 0n,
        writes: 0n,
        reads: 0n,
        readBytes: 0n,
        doubtBytes: 0n,
        resyncComparedBytes: 0n,
        resyncDifferingBytes: 0n,
    };
}
/** `openFault`: why the member's journal could not be opened, a code. */
function stateOf(member, openFault, spans) {
    const last = spans.at(-1);
    const fault = member?.journal.fault ?? openFault;
    if (member === null || member.live === null) {
        return { state: 'disconnected', detail: fault === '' ? (member?.lastEnd ?? '') : fault };
    }
    const said = member.heartbeat?.state;
    if (last === undefined)
        return { state: 'initial-sync', detail: fault };
    switch (last.grade) {
        case 'ordered':
            return { state: 'protected', detail: fault };
        case 'syncing':
            return {
                state: said === 'resync' ? 'resync' : 'initial-sync',
                detail: fault === '' ? last.reason : fault,
            };
        case 'gap':
        case 'damaged':
            return { state: 'tracking', detail: fault === '' ? last.reason : fault };
    }
}
/** While the agent is away, nothing after what was covered last is known to be here: the lag grows. */
function lagNs(heartbeat, coveredTimeNs, nowNs) {
    if (heartbeat === null)
        return coveredTimeNs === 0n ? 0n : positive(nowNs() - coveredTimeNs);
    return heartbeat.oldestTimeNs === 0n ? 0n : positive(heartbeat.nowNs - heartbeat.oldestTimeNs);
}
function positive(ns) {
    return ns > 0n ? ns : 0n;
}
//# sourceMappingURL=status.js.map