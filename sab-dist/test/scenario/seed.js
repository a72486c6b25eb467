/** Where chance decides in a scenario, its seed is in the name of the test: with it, the same is chosen again. */
/** AFTERIMAGE_SEED, or else the day. */
export const SEED = Number(process.env['AFTERIMAGE_SEED'] ?? Math.floor(Date.now() / 86_400_000));
/** Numbers of [0, 1). */
export function pseudorandom(seed) {
    let state = seed >>> 0;
    return () => {
        // Neighbouring seeds must not begin alike: splitmix32.
        state = (state + 0x9e3779b9) >>> 0;
        let mixed = state;
        mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
        mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
        return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
    };
}
//# sourceMappingURL=seed.js.map