import { command } from './command.js';
import { Scratch } from './scratch.js';
import { nbdUri, Site } from './site.js';
/** Started and settled; all of it is gone when the test ends. `name` marks its directory. */
export async function socketSite(t, name, bytes, options) {
    const scratch = await Scratch.create(name);
    t.teardown(() => scratch.clean());
    const backing = scratch.path('volume.img');
    await command('truncate', ['-s', String(bytes), backing]);
    const site = await Site.create(scratch, {
        ...options,
        volumes: [{ name: 'disk', backing, attach: 'socket' }],
    });
    await site.start();
    const ready = await site.settled();
    return { site, backing, uri: nbdUri(ready), ready };
}
/** Four MiB of one byte, flushed. */
export const writePattern = (uri, byte, megabyte = 0) => command('qemu-io', ['-f', 'raw', '-c', `write -P ${byte} ${megabyte}M 4M`, '-c', 'flush', uri]);
//# sourceMappingURL=socket_site.js.map