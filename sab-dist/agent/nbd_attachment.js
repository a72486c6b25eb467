/**
 * A volume as /dev/nbdN: a device of the kernel's nbd driver that the addon serves over a socket pair, with a stable link to
 * it. Its requests wait while no agent is there, and come again when one is: nothing of it has to outlive the process but
 * its number, which the kernel tells too. Needs root and the nbd module.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { formatUuid } from '../proto/uuid.js';
import { describeUse } from '../service/loop_devices.js';
import { clearLink, placeLink, removeLink } from './stable_link.js';
const SECTOR_BYTES = 512n;
/** How the kernel names the owner of a volume's device. */
export const nbdBackend = (volume) => `afterimage-${formatUuid(volume)}`;
/**
 * `link`: where the stable link goes. A device that a killed agent left is served again, whoever uses it. Errors:
 * NBD_UNAVAILABLE, NBD_ATTACH, NBD_BUSY (a device of a killed agent has another size), IO_ERROR.
 */
export async function attachNbdDevice(link, backend, device, door, use, custody, log) {
    await clearLink(link);
    const left = await nbdDeviceOf(backend);
    if (left !== null) {
        await refuseOtherSize(left, device);
        log.warn({ device: left }, 'serving a device that a killed agent left');
    }
    const served = left === null ? await door.attachNbd(device, backend) : await door.resumeNbd(device, backend, left);
    try {
        const settings = { kind: 'nbd', device: served.name, link, backend };
        await custody.keep(() => ({ attachment: settings, descriptors: {} }));
        await placeLink(link, served.name);
        return attachment(settings, served, door, use, custody);
    }
    catch (thrown) {
        custody.forget();
        const error = (second) => log.error({ err: second }, 'after a failed attachment');
        await door.detachNbd(served.name, backend, false).catch(error);
        await served.stop().catch(error);
        throw toAfterimageError(thrown);
    }
}
/** Goes on with what a predecessor served. Errors: NBD_UNAVAILABLE, NBD_GONE (somebody has detached it), MEMORY_UNAVAILABLE. */
export async function resumeNbdDevice(settings, device, door, use, custody) {
    const served = await door.resumeNbd(device, settings.backend, settings.device);
    return attachment(settings, served, door, use, custody);
}
function attachment({ device, link, backend }, served, door, use, custody) {
    return {
        device,
        async detach(end) {
            const usedBy = async () => {
                try {
                    await door.detachNbd(device, backend, false);
                    return null;
                }
                catch (thrown) {
                    if (toAfterimageError(thrown).code !== 'NBD_BUSY')
                        throw thrown;
                    return describeUse(device);
                }
            };
            // Nobody answers what waits for an agent that was told to go at once.
            if (!(await use.untilNone(usedBy, end)))
                await door.detachNbd(device, backend, true);
            custody.forget();
            await removeLink(link).finally(() => served.stop());
        },
    };
}
/** "/dev/nbdN" of the device that is attached for `backend`; null: there is none. */
async function nbdDeviceOf(backend, blockDevices = '/sys/block') {
    for (const name of await readdir(blockDevices)) {
        if (!name.startsWith('nbd'))
            continue;
        // Only attached ones have it, and one may be detached meanwhile.
        const text = await readFile(`${blockDevices}/${name}/backend`, 'utf8').catch(() => '');
        if (text.trimEnd() === backend)
            return `/dev/${name}`;
    }
    return null;
}
async function refuseOtherSize(left, { size, blockSize }) {
    const attributes = path.join('/sys/block', path.basename(left));
    const read = async (name) => BigInt((await readFile(path.join(attributes, name), 'utf8')).trim());
    const isSame = (await read('size')) * SECTOR_BYTES === size &&
        (await read('queue/logical_block_size')) === BigInt(blockSize);
    if (isSame)
        return;
    throw new AfterimageError('NBD_BUSY', `${left} of an agent that was killed has another size than the backing`);
}
//# sourceMappingURL=nbd_attachment.js.map