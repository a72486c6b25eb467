// CapturedDevice: the protected path. Carries a write out on the backing and publishes it to the group, in
// this order:
//   extent lock → mark in the dirty log, if cold → backing → LSN and time, publish → slot marked executed →
//   unlock
// so that where in-flight writes overlap, the backing and the journal agree on which came last (R2), and
// nothing is published that the backing does not hold.
//
// Reads go straight to the backing. Ranges are journaled in whole sectors of 512 bytes: an unaligned write is
// completed from the backing under its extent lock. Requests longer than a record's limit become several
// records. Trims and zeroes are journaled as zero, and so are all-zero payloads. FLUSH and FUA reach the
// backing before they are acknowledged (R4).
//
// A failed backing write leaves its range in doubt: it is read again and what is there is journaled, before
// the error is returned; if that fails too, or the range is too long for that, the stream is closed
// ("BACKING_FAILED") and production goes on unprotected.
//
// It can grow with its backing: the stream ends before (reason "VOLUME_GROWN"), so that a generation has the
// sizes that it began with.
//
// Threads: as BlockDevice. republish(), read_settled(), fence(), settle_in_flight(), prepare_growth() and
// clean_up() from worker threads; grow() from the thread that begins generations. With a dirty log it has a
// thread that unmarks in the background (dirty_log_cleaner.h) until it goes. Ownership: shares the backing,
// the dirty log and the table of writes in flight; the group must outlive it.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "capture/capture_group.h"
#include "capture/dirty_log.h"
#include "capture/dirty_log_cleaner.h"
#include "capture/extent_lock.h"
#include "capture/in_flight_table.h"
#include "device/block_device.h"
#include "os/latency_histogram.h"

namespace afterimage {

class CapturedDevice final : public BlockDevice {
 public:
  /// `log` is that of this volume, or null: then nothing is marked. `in_flight` is told of every modification
  /// while it lasts; null: nobody will want to know.
  CapturedDevice(std::shared_ptr<BlockDevice> backing, CaptureGroup* group, uint16_t volume_number,
                 std::shared_ptr<DirtyLog> log = nullptr, std::shared_ptr<InFlightTable> in_flight = nullptr,
                 const DirtyLogCleaner::Pace& pace = {});
  ~CapturedDevice() override;

  uint64_t size() const override;
  uint32_t block_size() const override;
  bool read_only() const override;
  bool can_fast_zero() const override;
  Errno prepare_thread() override;
  Errno read(uint64_t offset, uint64_t length, std::byte* into) override;
  Errno write(uint64_t offset, uint64_t length, const std::byte* from,
              const RequestOptions& options) override;
  Errno zero(uint64_t offset, uint64_t length, const RequestOptions& options) override;
  Errno trim(uint64_t offset, uint64_t length, const RequestOptions& options) override;
  Errno flush() override;
  /// Of a sync: not counted among the reads of production.
  Errno read_past_cache(uint64_t offset, uint64_t length, std::byte* into) override;
  Errno allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) override;

  /// Resync: journals what the backing holds in [offset, offset+length) (≤ kRecordBytesMax, whole sectors),
  /// extent lock held from read to publish. *lsn is 0 if the stream is closed. Waits, before locking, while
  /// the ring is more than half full; EAGAIN, and nothing journaled, when that takes more than about 100 ms.
  Errno republish(uint64_t offset, uint64_t length, uint64_t* lsn);
  /// Verification: reads [offset, offset+length) (≤ kRecordBytesMax, whole sectors) under its extent lock,
  /// and says up to which LSN a replica has to be to hold just that. *lsn is 0 if the stream is closed.
  Errno read_settled(uint64_t offset, uint64_t length, std::byte* to, uint64_t* lsn);
  /// An LSN not before any write that was in flight when the call began.
  uint64_t fence();
  /// Before anybody writes: journals what the backing holds where a predecessor was writing when it ended, so
  /// that stream and backing agree. Where that is not known, or cannot be read, or where the backing had
  /// failed a flush, the stream is closed ("BACKING_FAILED"): what is marked is compared then. A dirty log
  /// whose file the predecessor could not make void is begun anew.
  void settle_in_flight();
  /// Of the table, which keeps it; -1: there is none.
  int in_flight_memfd() const { return in_flight_ ? in_flight_->memfd() : -1; }
  /// Closes the stream, and marks what is added to the volume in the dirty log. The backing has `bytes`
  /// already. Errors: MEMORY_UNAVAILABLE.
  Outcome prepare_growth(uint64_t bytes);
  /// Takes requests for all of `bytes`, which were prepared. A stream that was begun since is closed: who
  /// begins the next one knows of the new size.
  void grow(uint64_t bytes);
  /// Unmarks what can be unmarked at once (DirtyLogCleaner::clean_up).
  void clean_up();
  struct Counters {
    uint64_t reads = 0;
    uint64_t read_bytes = 0;
    uint64_t writes = 0;  // zeroes and trims too
    uint64_t write_bytes = 0;
    uint64_t errors = 0;  // requests that the backing failed
    LatencyHistogram::Snapshot read_latency;
    LatencyHistogram::Snapshot write_latency;  // zeroes and trims too
    LatencyHistogram::Snapshot flush_latency;
  };
  Counters counters() const;
  /// Requests that are under way, none of which is at the backing, while none ends: they are stuck in this
  /// program.
  struct Activity {
    uint32_t under_way = 0;
    uint32_t at_backing = 0;
    uint64_t ended = 0;  // since the device was made
  };
  Activity activity() const;

 private:
  class Request;
  template <typename Work>
  Errno at_backing(Work work);
  template <typename CarryOut, typename Journal>
  Errno modify(uint64_t offset, uint64_t length, const RequestOptions& options, CarryOut carry_out,
               Journal journal);
  void journal_content(uint64_t offset, uint64_t length, const std::byte* content);
  void journal_zero(uint64_t offset, uint64_t length, uint8_t flags);
  Errno journal_backing(uint64_t begin, uint64_t end, uint8_t flags, uint64_t* lsn);
  uint64_t publish_piece(uint64_t offset, uint32_t length, const std::byte* content, uint8_t flags);
  Errno refusal(uint64_t offset, uint64_t length, Errno beyond) const;
  Errno counted(Errno error);
  void note_lost_writes();

  const std::shared_ptr<BlockDevice> backing_;
  std::atomic<uint64_t> size_;  // the backing may have grown since
  CaptureGroup* const group_;
  const uint16_t volume_;
  const std::shared_ptr<DirtyLog> log_;
  const std::shared_ptr<InFlightTable> in_flight_;
  ExtentLock extents_;
  std::atomic<uint32_t> under_way_{0}, at_backing_{0};
  std::atomic<uint64_t> ended_{0};
  LatencyHistogram read_latency_, write_latency_, flush_latency_;
  std::atomic<uint64_t> reads_{0}, read_bytes_{0}, writes_{0}, write_bytes_{0}, errors_{0};
  std::unique_ptr<DirtyLogCleaner> cleaner_;  // last: it uses the above
};

}  // namespace afterimage
