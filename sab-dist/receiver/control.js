import { AfterimageError } from '../proto/errors.js';
import { serverStream, unary } from '../service/rpc.js';
import { toCatalogError } from './catalog/database.js';
import { groupNamed } from './points.js';
import { receiverStatus } from './status.js';
import { readHistory, spansOf } from './timeline.js';
/** How long an agent may take to mark a checkpoint and ship everything before it, until the caller is told to look later. */
const CHECKPOINT_TIMEOUT_MS = 100_000;
/** The handlers of receiverControlService. */
export function controlHandlers(parts) {
    const { points, exports, recovery, stopping } = parts;
    return {
        status: answer(() => receiverStatus(parts)),
        timeline: answer((request) => Promise.resolve(timeline(parts, request))),
        point: answer(async ({ group, point }) => {
            // To say what a point is, its grade does not matter.
            const { positions, grade } = await points.resolve(group, point, true);
            const [{ lsn, timeNs, member }] = positions;
            return { group, lsn, timeNs, grade, member: member.uuid };
        }),
        checkpointCreate: answer((request) => createCheckpoint(parts, request)),
        checkpointList: answer((request) => Promise.resolve({ checkpoints: listCheckpoints(parts, request.group) })),
        checkpointPin: answer((request) => Promise.resolve(pinCheckpoint(parts, request))),
        checkpointDelete: answer(({ group, name }) => {
            const row = knownCheckpoint(parts, group, name);
            if (row.pinned) {
                throw new AfterimageError('CHECKPOINT_PINNED', `${name} of ${group} keeps history that would go`);
            }
            parts.catalog.checkpoints.delete(row.group, name);
            return Promise.resolve({});
        }),
        exportOpen: answer((request, { signal }) => exports.start(request, signal)),
        exportList: answer(() => Promise.resolve({ exports: exports.list() })),
        exportClose: answer(async ({ id }) => {
            await exports.stop(id);
            return {};
        }),
        scrub: serverStream((request, { signal }) => codedStream(scrubbed(parts, request, AbortSignal.any([signal, stopping])))),
        recover: serverStream((request, { signal }) => codedStream(recovery.run(request, AbortSignal.any([signal, stopping])))),
    };
}
/** A call whose errors all have a code, those of the catalog too. */
function answer(handler) {
    return unary(async (request, context) => {
        try {
            return await handler(request, context);
        }
        catch (thrown) {
            throw toCatalogError(thrown);
        }
    });
}
async function* codedStream(messages) {
    try {
        yield* messages;
    }
    catch (thrown) {
        throw toCatalogError(thrown);
    }
}
async function* scrubbed({ catalog, scrub, scrubRateMax }, { group, rateMax }, signal) {
    const groups = group === '' ? catalog.members.groups() : [groupNamed(catalog, group)];
    const rate = rateMax === 0n ? scrubRateMax : rateMax;
    for await (const { done, ...step } of scrub.run(groups, rate, signal)) {
        yield { ...step, phase: done ? 'done' : 'scrub' };
    }
}
function timeline({ catalog, members }, request) {
    const group = groupNamed(catalog, request.group);
    const rows = catalog.members.members(group.uuid);
    for (const row of rows)
        members.refresh(row.uuid);
    const histories = rows.map((row) => ({ row, spans: spansOf(readHistory(catalog, row.uuid)) }));
    return {
        group: group.name,
        spans: histories.flatMap(({ row, spans }) => spans.map((span) => timelineSpan(row, span))),
        checkpoints: checkpointsOf(catalog.checkpoints.checkpoints(group.uuid), group, histories),
    };
}
function timelineSpan(row, span) {
    const { grade, generation, firstLsn, lastLsn, beginNs, endNs, reason } = span;
    return {
        grade,
        member: row.uuid,
        host: row.host,
        generation,
        firstLsn,
        lastLsn,
        beginNs,
        endNs: endNs ?? 0n,
        reason,
    };
}
function listCheckpoints({ catalog }, name) {
    const groups = name === '' ? catalog.members.groups() : [groupNamed(catalog, name)];
    return groups.flatMap((group) => {
        const histories = catalog.members
            .members(group.uuid)
            .map((row) => ({ row, spans: spansOf(readHistory(catalog, row.uuid)) }));
        return checkpointsOf(catalog.checkpoints.checkpoints(group.uuid), group, histories);
    });
}
function checkpointsOf(checkpoints, group, histories) {
    return checkpoints.map(({ name, member, lsn, timeNs, consistency, pinned }) => {
        const spans = histories.find(({ row }) => row.uuid === member)?.spans ?? [];
        const span = spans.find(({ firstLsn, lastLsn }) => firstLsn <= lsn && lsn <= lastLsn) ??
            spans.find(({ grade, firstLsn, lastLsn }) => grade !== 'gap' && lastLsn < firstLsn && lsn === lastLsn);
        // In no span: its record is not there any more.
        const grade = span?.grade ?? 'damaged';
        return { name, group: group.name, lsn, timeNs, consistency, grade, pinned };
    });
}
/** The first member of the group marks its position; the others join it by its time, as they do any point. */
async function createCheckpoint(parts, { group: groupName, name, pin }) {
    const { catalog, members } = parts;
    const group = groupNamed(catalog, groupName);
    const row = catalog.members.members(group.uuid)[0];
    const live = row === undefined ? null : (members.get(row.uuid)?.live ?? null);
    if (live === null)
        throw new AfterimageError('AGENT_AWAY', `no agent of ${groupName} is connected`);
    await withTimeout(live.askCheckpoint(name), name);
    if (pin)
        return pinCheckpoint(parts, { group: groupName, name, pinned: true });
    return checkpointInfo(parts, groupName, name);
}
function pinCheckpoint(parts, { group, name, pinned }) {
    const row = knownCheckpoint(parts, group, name);
    parts.catalog.checkpoints.setPinned(row.group, name, pinned);
    return checkpointInfo(parts, group, name);
}
/** Errors: GROUP_UNKNOWN, CHECKPOINT_UNKNOWN. */
function knownCheckpoint({ catalog }, groupName, name) {
    const row = catalog.checkpoints.checkpoint(groupNamed(catalog, groupName).uuid, name);
    if (row === null)
        throw new AfterimageError('CHECKPOINT_UNKNOWN', `${groupName} has no checkpoint ${name}`);
    return row;
}
function checkpointInfo(parts, group, name) {
    const kept = listCheckpoints(parts, group).find((checkpoint) => checkpoint.name === name);
    if (kept === undefined)
        throw new AfterimageError('CHECKPOINT_UNKNOWN', `${name} was not kept`);
    return kept;
}
/** What was asked for goes on. */
async function withTimeout(asked, name) {
    let timer;
    const late = new Promise((_resolve, reject) => {
        timer = setTimeout(() => {
            reject(new AfterimageError('CHECKPOINT_PENDING', `checkpoint ${name} is asked for, and not durable yet`));
        }, CHECKPOINT_TIMEOUT_MS);
    });
    try {
        await Promise.race([asked, late]);
    }
    finally {
        clearTimeout(timer);
    }
}
//# sourceMappingURL=control.js.map