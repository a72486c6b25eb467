/**
 * What of this process is kept outside of it, in the descriptor store of the service manager: the capture ring of each
 * group, and of each volume its settings, the table of its writes in flight and, where it is served as a loop device, its
 * FUSE session and request slots. A successor takes them (inheritance.ts) and goes on; whoever uses a loop device does not
 * notice, and an NBD client that connects again does not find a new stream.
 *
 * Without a store, or when it fails, production is served all the same; a killed agent is then noticed.
 */
import { closeSync } from 'node:fs';
import { toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type * as native from '../native/index.js';
import type { SocketAddress } from './config.js';
import {
  encodeSettings,
  type AttachSettings,
  type GroupSettings,
  type LoopSettings,
  type VolumeSettings,
} from './served_settings.js';

export type StoreDoor = Pick<
  typeof native,
  'hasServiceManager' | 'storeDescriptor' | 'forgetDescriptor' | 'awaitServiceManager' | 'makeSealedMemory'
>;

const PATIENCE_MS = 5_000;

/** The parts of a volume that the store keeps. A name is GROUP/VOLUME/PART. */
export const VOLUME_PARTS = ['settings', 'in-flight', 'slots', 'fuse'] as const;
type VolumePart = (typeof VOLUME_PARTS)[number];
/** And of a group: GROUP/ring. */
export const RING_PART = 'ring';

/** What a volume has kept of itself. */
export interface VolumeCustody {
  /** Returns when the store has it: only then may production be let in. Never rejects. */
  keepLoop(
    server: native.FuseServer,
    threads: number,
    loop: Omit<LoopSettings, 'mountPoint' | 'connection'>,
  ): Promise<void>;
  keepSocket(address: SocketAddress): Promise<void>;
  /** Nobody uses the volume any more. */
  forget(): void;
}

export class GroupCustody {
  constructor(
    private readonly door: StoreDoor,
    private readonly group: GroupSettings,
    private readonly log: Log,
  ) {}

  /** The group's. */
  get name(): string {
    return this.group.name;
  }

  keepRing(captureGroup: Pick<native.CaptureGroup, 'ringDescriptor'>): void {
    this.tell(() =>
      this.door.storeDescriptor(`${this.group.name}/${RING_PART}`, captureGroup.ringDescriptor()),
    );
  }
  forgetRing(): void {
    this.tell(() => this.door.forgetDescriptor(`${this.group.name}/${RING_PART}`));
  }

  /** `captured` has the table of its writes in flight. */
  volume(
    volume: Omit<VolumeSettings, 'attach'>,
    captured: Pick<native.CapturedVolume, 'inFlightDescriptor'>,
  ): VolumeCustody {
    const nameOf = (part: VolumePart): string => `${this.group.name}/${volume.name}/${part}`;
    const forget = (): void => {
      for (const part of VOLUME_PARTS) this.door.forgetDescriptor(nameOf(part));
    };
    const keep = async (
      attach: AttachSettings,
      descriptors: Partial<Record<VolumePart, number>>,
    ): Promise<void> => {
      const settings = encodeSettings({ group: this.group, volume: { ...volume, attach } });
      const memory = this.door.makeSealedMemory('afterimage-settings', settings);
      const parts = { ...descriptors, 'in-flight': captured.inFlightDescriptor(), settings: memory };
      try {
        forget(); // what a predecessor left of it
        for (const part of VOLUME_PARTS) {
          const descriptor = parts[part];
          if (descriptor !== undefined) this.door.storeDescriptor(nameOf(part), descriptor);
        }
        await this.door.awaitServiceManager(PATIENCE_MS);
      } finally {
        closeSync(memory);
      }
    };
    return {
      keepLoop: (server, threads, loop) =>
        this.attempt(async () => {
          const { fuse, slots, mountPoint, connection } = server.legacy();
          try {
            const attach = { kind: 'loop', threads, loop: { ...loop, mountPoint, connection } } as const;
            await keep(attach, slots === null ? { fuse } : { fuse, slots });
          } finally {
            for (const descriptor of [fuse, slots]) if (descriptor !== null) closeSync(descriptor);
          }
        }),
      keepSocket: (address) => this.attempt(() => keep({ kind: 'socket', address }, {})),
      forget: () => this.tell(forget),
    };
  }

  private async attempt(what: () => Promise<void>): Promise<void> {
    if (!this.door.hasServiceManager()) return;
    try {
      await what();
    } catch (thrown) {
      this.failed(thrown);
    }
  }

  private tell(what: () => void): void {
    if (!this.door.hasServiceManager()) return;
    try {
      what();
    } catch (thrown) {
      this.failed(thrown);
    }
  }

  private failed(thrown: unknown): void {
    const error = toAfterimageError(thrown);
    this.log.error(
      { err: error },
      'the descriptor store failed: a killed agent would be noticed by production',
    );
  }
}
