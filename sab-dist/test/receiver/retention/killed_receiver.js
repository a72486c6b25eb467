/** A receiver that kills itself at a step of its first roll-forward: node killed_receiver.js STORE RUN_DIR STAGE COUNT */
import pino from 'pino';
import { receiverConfigSchema } from '../../../receiver/config.js';
import { runReceiver } from '../../../receiver/main.js';
import { parseConfig } from '../../../service/config.js';
import { SHORT } from './scene.js';
const [store = '', runDirectory = '', stage = '', count = '1'] = process.argv.slice(2);
const config = parseConfig(`store = "${store}"\nlisten = "127.0.0.1:0"\nrun_dir = "${runDirectory}"\nsegment_bytes = "4MiB"\n${SHORT}`, 'receiver.toml', receiverConfigSchema);
let left = Number(count);
const never = new AbortController().signal;
const log = pino({ level: process.env['TEST_LOG'] ?? 'silent' }, pino.destination(2));
await runReceiver(config, { drain: never, end: never }, '0', {
    log,
    retentionMs: 20,
    atRollStage: (reached) => {
        if (reached === stage && --left === 0)
            process.kill(process.pid, 'SIGKILL');
    },
});
//# sourceMappingURL=killed_receiver.js.map