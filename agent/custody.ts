/**
 * What of this process is kept outside of it, in the descriptor store of the service manager: the capture ring of each
 * group, and of each volume its settings, the table of its writes in flight and, where it is served as a loop device, its
 * FUSE session and request slots, and where it is an NBD export, the socket that listens; and for a moment that it is growing.
 * A successor takes them (inheritance.ts) and goes on; whoever uses a loop device does not notice, and an NBD client connects again.
 *
 * Without a store, or when it fails, production is served all the same; a killed agent is then noticed.
 */
import { closeSync } from 'node:fs';
import { toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type * as native from '../native/index.js';
import {
  encodeSettings,
  type AttachmentSettings,
  type GroupSettings,
  type VolumeSettings,
} from './served_settings.js';

export type StoreDoor = Pick<
  typeof native,
  'hasServiceManager' | 'storeDescriptor' | 'forgetDescriptor' | 'awaitServiceManager' | 'makeSealedMemory'
>;

const PATIENCE_MS = 5_000;

/** The parts of a volume that the store keeps, in that order. A name is GROUP/VOLUME/PART. */
export const VOLUME_PARTS = ['growing', 'settings', 'in-flight', 'slots', 'fuse', 'listening'] as const;
type VolumePart = (typeof VOLUME_PARTS)[number];
/** And of a group: GROUP/ring. */
export const RING_PART = 'ring';

/** What of an attachment goes into the store. The descriptors are closed then. */
export interface KeptAttachment {
  attachment: AttachmentSettings;
  descriptors: Partial<Record<Exclude<VolumePart, 'settings' | 'growing'>, number>>;
}

/** What a volume has kept of itself. */
export interface VolumeCustody {
  /** Returns when the store has it: only then may production be let in. Never rejects. */
  keep(describe: () => KeptAttachment): Promise<void>;
  /**
   * What is described, in the place of what was of no use. A process that dies in between leaves neither, which is no worse
   * than before. Never throws.
   */
  replace(describe: () => KeptAttachment['descriptors']): void;
  /** The table of its writes in flight, likewise. */
  replaceInFlight(): void;
  /** From now on the sizes in its settings may be larger than those with which the present generation was begun. */
  growing(): void;
  /** A generation that was begun before has ended. */
  hasGrown(): void;
  /** Before anybody is shown that the volume has grown: a successor serves it as large. Never rejects. */
  grown(size: bigint): Promise<void>;
  /** Nobody uses the volume any more. */
  forget(): void;
}

/** What front ends need of it. */
export type AttachmentCustody = Pick<VolumeCustody, 'keep' | 'replace' | 'forget'>;

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

  /** `captured` has the table of its writes in flight. `inherited`: as what it is kept already; null: it is not. */
  volume(
    volume: Omit<VolumeSettings, 'attachment'>,
    captured: Pick<native.CapturedVolume, 'inFlightDescriptor'>,
    inherited: AttachmentSettings | null,
  ): VolumeCustody {
    const { door, group } = this;
    let kept = inherited;
    const nameOf = (part: VolumePart): string => `${group.name}/${volume.name}/${part}`;
    const replace = (part: VolumePart, descriptor: number): void => {
      door.forgetDescriptor(nameOf(part)); // all of that name, so before the store gets another
      door.storeDescriptor(nameOf(part), descriptor);
    };
    return {
      keep: async (describe) => {
        if (!door.hasServiceManager()) return;
        const opened: number[] = [];
        try {
          const { attachment, descriptors } = describe();
          opened.push(...Object.values(descriptors));
          kept = attachment;
          const settings = encodeSettings({ group, volume: { ...volume, attachment } });
          const memory = door.makeSealedMemory('afterimage-settings', settings);
          opened.push(memory);
          const parts: Partial<Record<VolumePart, number>> = {
            ...descriptors,
            ...{ settings: memory, 'in-flight': captured.inFlightDescriptor() },
          };
          this.forgetParts(volume.name); // what a predecessor left of it
          for (const part of VOLUME_PARTS) {
            const descriptor = parts[part];
            if (descriptor !== undefined) door.storeDescriptor(nameOf(part), descriptor);
          }
          await door.awaitServiceManager(PATIENCE_MS);
        } catch (thrown) {
          this.failed(thrown);
        } finally {
          for (const descriptor of opened) closeSync(descriptor);
        }
      },
      replace: (describe) =>
        this.tell(() => {
          const descriptors = describe();
          try {
            for (const [part, descriptor] of Object.entries(descriptors))
              replace(part as VolumePart, descriptor);
          } finally {
            for (const descriptor of Object.values(descriptors)) closeSync(descriptor);
          }
        }),
      replaceInFlight: () => this.tell(() => replace('in-flight', captured.inFlightDescriptor())),
      growing: () => {
        if (kept === null) return;
        this.tell(() => {
          const memory = door.makeSealedMemory('afterimage-growing', Buffer.from('growing'));
          try {
            door.storeDescriptor(nameOf('growing'), memory);
          } finally {
            closeSync(memory);
          }
        });
      },
      hasGrown: () => this.tell(() => door.forgetDescriptor(nameOf('growing'))),
      grown: async (size) => {
        if (kept === null || !door.hasServiceManager()) return;
        let memory: number | null = null;
        try {
          const settings = encodeSettings({ group, volume: { ...volume, size, attachment: kept } });
          memory = door.makeSealedMemory('afterimage-settings', settings);
          // Beside those of before, and never without any: the larger size counts.
          door.storeDescriptor(nameOf('settings'), memory);
          await door.awaitServiceManager(PATIENCE_MS);
        } catch (thrown) {
          this.failed(thrown);
        } finally {
          if (memory !== null) closeSync(memory);
        }
      },
      forget: () => {
        kept = null;
        this.forgetVolume(volume.name);
      },
    };
  }
  forgetVolume(volume: string): void {
    this.tell(() => this.forgetParts(volume));
  }

  private forgetParts(volume: string): void {
    for (const part of VOLUME_PARTS) this.door.forgetDescriptor(`${this.group.name}/${volume}/${part}`);
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
