export const SAMPLE_KINDS = [
    'none',
    'all',
    'allButOne',
    'onlyOne',
    'prefix',
    'subset',
    'torn',
    'tornLast',
    'oneFile',
    'namesOnly',
    'contentsOnly',
];
/** A state of the disk as it is now. `random`: numbers of [0, 1), taken now and whenever the choice is asked. */
export function sampleState(disk, kind, random) {
    const { names, contents } = disk.uncertain();
    const all = [...names, ...contents].sort((left, right) => left.begin - right.begin);
    const picked = all[Math.floor(random() * all.length)] ?? null;
    const share = random();
    /** One decision for each operation, and in torn ones for each sector. */
    const decided = new Map();
    const decide = (key) => {
        let answer = decided.get(key);
        if (answer === undefined)
            decided.set(key, (answer = random() < share));
        return answer;
    };
    const has = (operation, part, isName) => {
        switch (kind) {
            case 'none':
                return false;
            case 'all':
                return true;
            case 'allButOne':
                return operation !== picked;
            case 'onlyOne':
                return operation === picked;
            case 'prefix':
                return picked !== null && operation.begin <= picked.begin;
            case 'subset':
                return decide(`${operation.index}`);
            case 'torn':
                return decide(`${operation.index} ${part}`);
            case 'tornLast':
                if (picked === null || operation.begin !== picked.begin) {
                    return picked !== null && operation.begin < picked.begin;
                }
                return decide(`${operation.index} ${part}`);
            case 'oneFile':
                return picked !== null && operation.file === picked.file && operation.path === picked.path;
            case 'namesOnly':
                return isName;
            case 'contentsOnly':
                return !isName;
        }
    };
    return {
        kind,
        uncertain: all.length,
        hasName: (operation) => has(operation, '', true),
        hasSector: (operation, sector) => has(operation, String(sector), false),
        hasSize: (operation) => has(operation, 'size', false),
    };
}
//# sourceMappingURL=sampler.js.map