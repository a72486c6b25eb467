#include "binding/lost_extents_object.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "binding/addon_data.h"
#include "binding/async.h"
#include "binding/journal_object.h"
#include "binding/values.h"
#include "journal/lost_extents.h"

namespace afterimage::binding {
namespace {

using Shared = std::shared_ptr<LostExtents>;

class LostExtentsObject : public Napi::ObjectWrap<LostExtentsObject> {
 public:
  static void define(Napi::Env env) {
    AddonData::of(env).lost_extents = Napi::Persistent(
        DefineClass(env, "LostExtents", {InstanceMethod<&LostExtentsObject::follow>("follow")}));
  }
  static Napi::Value create(Napi::Env env, Shared& lost) {
    const Napi::Object object = AddonData::of(env).lost_extents.New({});
    Unwrap(object)->lost_ = std::move(lost);
    return object;
  }
  explicit LostExtentsObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LostExtentsObject>(info) {}

 private:
  Napi::Value follow(const Napi::CallbackInfo& info) {
    using Found = std::optional<uint64_t>;
    return run_async<Found>(
        info.Env(),
        [lost = lost_, tiles = to_tiles(info[0]), lsn_max = to_u64(info[1], "lsnMax")]() -> Result<Found> {
          for (const PointSource::Tile& tile : tiles) {
            auto found = lost->follow({.segment = tile.segment, .run_path = tile.run_path}, lsn_max);
            if (!found.ok() || *found) return found;
          }
          return Found();
        },
        [](Napi::Env env, Found& found) { return found ? Napi::Value(big(env, *found)) : env.Null(); });
  }

  Shared lost_;
};

Napi::Value open_lost_extents(const Napi::CallbackInfo& info) {
  std::optional<SegmentInfo> intact;
  if (!info[2].IsNull()) intact = to_segment(info[2].As<Napi::Object>());
  return run_async<Shared>(
      info.Env(),
      [whole = to_segment(info[0].As<Napi::Object>()), path = to_string(info[1], "runPath"),
       intact]() -> Result<Shared> {
        auto lost = LostExtents::open(whole, path, intact);
        if (!lost.ok()) return lost.error();
        return Shared(std::move(*lost));
      },
      LostExtentsObject::create);
}

}  // namespace

void define_lost_extents(Napi::Env env, Napi::Object exports) {
  LostExtentsObject::define(env);
  exports.Set("openLostExtents", Napi::Function::New<open_lost_extents>(env));
}

}  // namespace afterimage::binding
