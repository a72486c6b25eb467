/** "MAJOR:MINOR" of a device, as sysfs and mountinfo name it. */
export const deviceNumber = (rdev: bigint): string => `${major(rdev)}:${minor(rdev)}`;

/** gnu_dev_major and gnu_dev_minor. */
function major(device: bigint): bigint {
  return ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
}
function minor(device: bigint): bigint {
  return (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
}
