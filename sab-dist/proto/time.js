/** How an instant is written, by the command and in the messages of the daemons. */
const NS_PER_S = 1000000000n;
/** Nanoseconds since 1970 as RFC 3339 in UTC with all nine digits, as --at takes it: "2026-01-02T03:04:05.000000678Z". */
export function formatTime(timeNs) {
    const instant = new Date(Number(timeNs / NS_PER_S) * 1000).toISOString();
    return `${instant.slice(0, -'.000Z'.length)}.${String(timeNs % NS_PER_S).padStart(9, '0')}Z`;
}
//# sourceMappingURL=time.js.map