/** How a recovery point is written. */
import { AfterimageError } from '../proto/errors.js';
const RFC3339 = /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})$/;
const NS_PER_MS = 1000000n;
const NS_PER_S = 1000000000n;
const AGO_NS = { s: NS_PER_S, m: 60n * NS_PER_S, h: 3600n * NS_PER_S };
const U64_MAX = 2n ** 64n - 1n;
/** Takes a point apart. Errors: POINT_INVALID. */
export function parsePoint(text) {
    if (text === 'latest')
        return { kind: 'latest' };
    const lsn = /^lsn:(?:([^:]+):)?(\d{1,20})$/.exec(text);
    if (lsn?.[2] !== undefined && BigInt(lsn[2]) <= U64_MAX) {
        return { kind: 'lsn', member: lsn[1] ?? null, lsn: BigInt(lsn[2]) };
    }
    const checkpoint = /^checkpoint:(.+)$/.exec(text);
    if (checkpoint?.[1] !== undefined)
        return { kind: 'checkpoint', name: checkpoint[1] };
    const ago = /^-(\d{1,9})([smh])$/.exec(text);
    const unit = AGO_NS[ago?.[2] ?? ''];
    if (ago?.[1] !== undefined && unit !== undefined)
        return { kind: 'ago', ns: BigInt(ago[1]) * unit };
    const timeNs = parseTime(text);
    if (timeNs !== null)
        return { kind: 'time', timeNs };
    throw new AfterimageError('POINT_INVALID', `${JSON.stringify(text)} is not a recovery point`);
}
/** An RFC 3339 time with up to nine decimals, as nanoseconds since 1970; null when it is none, or before 1970. */
function parseTime(text) {
    const match = RFC3339.exec(text);
    if (match === null)
        return null;
    const [, date = '', time = '', fraction = '', zone = ''] = match;
    const local = Date.parse(`${date}T${time}Z`);
    // Date.parse takes 30 February for 2 March.
    if (Number.isNaN(local) || new Date(local).toISOString() !== `${date}T${time}.000Z`)
        return null;
    const epochMs = Date.parse(`${date}T${time}${zone.toUpperCase()}`);
    if (Number.isNaN(epochMs) || epochMs < 0)
        return null;
    return BigInt(epochMs) * NS_PER_MS + BigInt(fraction.padEnd(9, '0'));
}
//# sourceMappingURL=point_syntax.js.map