/** Seeded randomness: the same seed gives the same history, on every machine. */
/** xorshift128, seeded by splitmix. */
export class Random {
    #a;
    #b;
    #c;
    #d;
    constructor(seed) {
        let state = seed >>> 0;
        const next = () => {
            state = (state + 0x9e3779b9) >>> 0;
            let z = state;
            z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
            z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
            return (z ^ (z >>> 16)) >>> 0;
        };
        [this.#a, this.#b, this.#c, this.#d] = [next(), next(), next(), next() | 1];
    }
    /** 0 … 2^32 - 1. */
    #next() {
        let t = this.#d;
        t ^= t << 11;
        t ^= t >>> 8;
        this.#d = this.#c;
        this.#c = this.#b;
        this.#b = this.#a;
        t ^= this.#a;
        t ^= this.#a >>> 19;
        this.#a = t >>> 0;
        return this.#a;
    }
    /** low … high, both included. */
    int(low, high) {
        return low + (this.#next() % (high - low + 1));
    }
    chance(probability) {
        return this.#next() / 2 ** 32 < probability;
    }
    pick(items) {
        const item = items[this.int(0, items.length - 1)];
        if (item === undefined)
            throw new Error('nothing to pick from');
        return item;
    }
    /** 16 or 32 bytes, say. */
    bytes(count) {
        return Buffer.from(Array.from({ length: count }, () => this.int(0, 255)));
    }
}
//# sourceMappingURL=random.js.map