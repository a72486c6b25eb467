const KINDS = [
    'connectionLost',
    'outage',
    'slowDisk',
    'slowLink',
    'agentCrash',
    'powerLoss',
    'logsRestored',
    'agentStop',
    'receiverCrash',
    'receiverRestored',
    'agentCloned',
    'checkpoint',
];
export function faultPlan(random) {
    const kinds = KINDS.filter(() => random.chance(0.5));
    const rate = (most) => (random.chance(0.4) ? (most * random.int(1, 10)) / 10 : 0);
    // A stream that loses a single message and goes on does not exist; it is played to see the numbers of messages work. It
    // could lose the very news by which a copy of the agent's state is told from its heir.
    const isCopied = kinds.includes('agentCloned') || kinds.includes('logsRestored') || kinds.length === 0;
    return {
        durationMs: random.int(5_000, 30_000),
        everyMs: random.pick([300, 1500, 5000]),
        kinds: kinds.length > 0 ? kinds : [...KINDS],
        network: { lose: isCopied ? 0 : rate(0.01), repeat: rate(0.01), reorder: isCopied ? 0 : rate(0.01) },
        agentFailure: rate(0.05),
        storeFailure: rate(0.01),
        corruption: rate(0.02),
        ringBytes: random.pick([6_000, 30_000, 120_000]),
    };
}
//# sourceMappingURL=fault_plan.js.map