/** The daemons themselves, each loaded when it is asked for. */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { formatCount } from './quantity.js';
export const daemons = {
    async checkAgent(file) {
        const { loadAgentConfig } = await import('../agent/config.js');
        const { control, groups } = await loadAgentConfig(file);
        const volumes = groups.reduce((sum, group) => sum + group.volumes.length, 0);
        return { control, text: `${formatCount(groups.length, 'group')}, ${formatCount(volumes, 'volume')}` };
    },
    async checkReceiver(file) {
        const { loadReceiverConfig } = await import('../receiver/config.js');
        const { control, store } = await loadReceiverConfig(file);
        return { control, text: `store ${store}` };
    },
    async runAgent(file, overrides, stop, version) {
        const { loadAgentConfig } = await import('../agent/config.js');
        const { runAgent } = await import('../agent/main.js');
        await runAgent(async () => overridden(await loadAgentConfig(file), overrides), stop, version);
    },
    async supervise(flag) {
        const { becomeProgram, hasServiceManager, supervisorPath } = await import('../native/index.js');
        if (hasServiceManager())
            return;
        const [script, ...args] = process.argv.slice(1);
        const rest = [...process.execArgv, script ?? '', ...args.filter((arg) => arg !== flag)];
        becomeProgram(supervisorPath, [process.execPath, ...rest]);
    },
    async runReceiver(file, overrides, stop, version) {
        const { loadReceiverConfig } = await import('../receiver/config.js');
        const { runReceiver } = await import('../receiver/main.js');
        await runReceiver(overridden(await loadReceiverConfig(file), overrides), stop, version);
    },
    async initReceiver(store) {
        const { Store } = await import('../receiver/store.js');
        await Store.init(store, randomUUID());
    },
    async checkStore({ store, rate, progress, confirm, signal }) {
        const native = await import('../native/index.js');
        const { StoreCheck } = await import('../receiver/fsck/store_check.js');
        const { createLog } = await import('../service/log.js');
        const parts = {
            ...{ native, rate, progress, signal },
            nowMs: () => performance.now(),
            sleep: (ms) => delay(ms, undefined, { signal }).catch(() => undefined),
            // What it does is in its report.
            log: createLog('fsck', 'fatal'),
        };
        const check = await StoreCheck.open(parts, store);
        try {
            const report = await check.check();
            if (confirm === null || !check.isRepairable || !(await confirm(report)))
                return report;
            return await check.repair();
        }
        finally {
            check.close();
        }
    },
    async storeOf(file) {
        const { loadReceiverConfig } = await import('../receiver/config.js');
        return (await loadReceiverConfig(file)).store;
    },
};
function overridden(config, { control, logLevel }) {
    return { ...config, control: control ?? config.control, logLevel: logLevel ?? config.logLevel };
}
//# sourceMappingURL=daemon_modules.js.map