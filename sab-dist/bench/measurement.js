export const FULL = {
    quick: false,
    pairs: 5,
    seconds: 30,
    volumeBytes: 1 << 30,
    burstBytes: 200 << 20,
    historyWrites: 1_000_000,
};
/** A smoke run: shows that the harness works, not how fast anything is. */
export const QUICK = {
    quick: true,
    pairs: 2,
    seconds: 3,
    volumeBytes: 256 << 20,
    burstBytes: 64 << 20,
    historyWrites: 20_000,
};
export function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    const [low, high] = [sorted[Math.max(0, middle - 1)], sorted[middle]];
    if (low === undefined || high === undefined)
        throw new Error('the median of nothing');
    return sorted.length % 2 === 1 ? high : (low + high) / 2;
}
export function judge(measurement, ours, peer) {
    const values = ours.map((sample) => sample.value);
    const peers = peer.map((sample) => sample.value);
    const broken = [
        ...ours.flatMap((sample) => sample.broken),
        ...peer.flatMap((sample) => sample.broken.map((reason) => `peer: ${reason}`)),
    ];
    const { name, unit, peerName, bar } = measurement;
    const ratios = peers.map((value, i) => (values[i] ?? Number.NaN) / value);
    const judged = peers.length > 0 ? ratios : values;
    // A ratio by its median; a limit by the worst that was seen.
    const met = peers.length > 0 ? median(judged) >= (bar ?? 0) : Math.max(...judged) <= (bar ?? Infinity);
    return {
        name,
        unit,
        ours: median(values),
        peer: peers.length > 0 ? median(peers) : null,
        peerName,
        ratio: peers.length > 0 ? median(ratios) : null,
        spread: [Math.min(...judged), Math.max(...judged)],
        bar,
        holds: bar === null ? null : met && broken.length === 0,
        broken,
        runs: { ours: [...ours], peer: [...peer] },
    };
}
//# sourceMappingURL=measurement.js.map