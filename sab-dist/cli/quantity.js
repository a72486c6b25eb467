/** Sizes, lags, times and their like, for people. */
import { formatTime } from '../proto/time.js';
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const UNIT_STEP = 1024;
const NS_PER_MS = 1_000_000;
/** 1536n → "1.5 KiB"; whole bytes below one KiB. */
export function formatBytes(bytes) {
    let value = Number(bytes);
    let unit = 0;
    // What would round to 1024.0 of a unit is 1.0 of the next.
    while (value >= UNIT_STEP - 0.05 && unit < BYTE_UNITS.length - 1) {
        value /= UNIT_STEP;
        unit += 1;
    }
    return unit === 0 ? `${bytes} B` : `${value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}
export function formatRate(bytesPerSecond) {
    return `${formatBytes(bytesPerSecond)}/s`;
}
/** A length of time in nanoseconds: "0.3 ms", "250 ms", "12.3 s", "5 m 03 s", "2 h 05 m". */
export function formatDuration(nanoseconds) {
    const ms = Number(nanoseconds) / NS_PER_MS;
    if (ms < 9.95)
        return `${ms.toFixed(1)} ms`;
    if (ms < 999.5)
        return `${ms.toFixed(0)} ms`;
    if (ms < 59_950)
        return `${(ms / 1000).toFixed(1)} s`;
    const seconds = Math.round(ms / 1000);
    const two = (value) => String(value).padStart(2, '0');
    if (seconds < 3600)
        return `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s`;
    return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} m`;
}
/** As formatTime, and what stands for 0. */
export function formatTimeOr(timeNs, none) {
    return timeNs === 0n ? none : formatTime(timeNs);
}
export function formatShare(done, total) {
    return `${percent(done, total)} %`;
}
/** 0 to 100, rounded down; an empty whole is done. */
export function percent(done, total) {
    return total === 0n ? 100 : Number((done * 100n) / total);
}
/** "1 volume", "2 volumes". */
export function formatCount(count, noun) {
    return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
//# sourceMappingURL=quantity.js.map