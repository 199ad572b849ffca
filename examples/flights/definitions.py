"""What is known about a flight at the moment it leaves, defined once for every plane.

All of it answers one question: will this flight land more than 15 minutes late?
"""

from datetime import datetime

from features import (
    Entity,
    FeatureService,
    FeatureView,
    RequestView,
    Source,
    col,
    count,
    days,
    hours,
    last,
    mean,
    query_time,
    ref,
)

LATE = 15.0

carrier = Entity("carrier", key="carrier", description="An airline, by its two-letter code.")
origin = Entity("origin", key="origin", description="An airport that flights leave from.")
route = Entity("route", key=("origin", "dest"), type=(str, str), description="From here to there.")
tail = Entity("tail", key="tailnum", description="One aeroplane, by its tail number.")

departures = Source(
    "departures",
    table="lake.departures",
    stream="departures",
    event_time="departed_at",
    available_at="reported_at",
    event_id="flight_id",
    bucket_by="origin",
    description="A flight left its gate; reported five minutes later.",
    schema={
        "flight_id": str,
        "carrier": str,
        "tailnum": str,
        "origin": str,
        "dest": str,
        "dep_delay": float,
        "departed_at": datetime,
        "reported_at": datetime,
    },
)
landings = Source(
    "landings",
    table="lake.landings",
    stream="landings",
    event_time="landed_at",
    available_at="reported_at",
    event_id="flight_id",
    bucket_by="tailnum",
    description="A flight reached its gate: only now is its delay known.",
    schema={
        "flight_id": str,
        "carrier": str,
        "tailnum": str,
        "origin": str,
        "dest": str,
        "arr_delay": float,
        "landed_at": datetime,
        "reported_at": datetime,
    },
)
weather = Source(
    "weather",
    table="lake.weather",
    stream="weather",
    event_time="observed_at",
    available_at="published_at",
    event_id="report_id",
    bucket_by="origin",
    description="An hourly weather report; published when its hour is over.",
    schema={
        "report_id": str,
        "origin": str,
        "temp": float,
        "dewp": float,
        "humid": float,
        "wind_dir": float,
        "wind_speed": float,
        "wind_gust": float,
        "precip": float,
        "pressure": float,
        "visib": float,
        "observed_at": datetime,
        "published_at": datetime,
    },
)

flights = Source(
    "flights",
    table="lake.flights",
    event_time="departed_at",
    available_at="settled_at",
    event_id="flight_id",
    bucket_by="tailnum",
    description="The spine: flights that left, known with their outcome only when it is settled.",
    schema={
        "flight_id": str,
        "carrier": str,
        "flight": int,
        "tailnum": str,
        "origin": str,
        "dest": str,
        "distance": float,
        "scheduled_at": datetime,
        "departed_at": datetime,
        "landed_at": datetime,
        "settled_at": datetime,
        "scheduled_minutes": float,
        "scheduled_hour": int,
        "scheduled_weekday": int,
        "dep_delay": float,
        "arr_delay": float,
    },
)

carrier_delay = FeatureView(
    "carrier_delay",
    entity=carrier,
    source=landings,
    owner="eta",
    description="How late an airline has been landing.",
    features={
        "flights_3h": count().over(hours(3)),
        "flights_24h": count().over(hours(24)),
        "delay_mean_3h": mean(col("arr_delay")).over(hours(3)),
        "delay_mean_24h": mean(col("arr_delay")).over(hours(24)),
        "delay_mean_7d": mean(col("arr_delay")).over(days(7)),
        "late_share_3h": mean(col("arr_delay") > LATE).over(hours(3)),
        "late_share_24h": mean(col("arr_delay") > LATE).over(hours(24)),
        "late_share_7d": mean(col("arr_delay") > LATE).over(days(7)),
        "trend": ref("delay_mean_3h") - ref("delay_mean_24h"),
    },
)
origin_congestion = FeatureView(
    "origin_congestion",
    entity=origin,
    source=departures,
    owner="eta",
    description="How busy an airport is, and how late flights leave it.",
    features={
        "departures_1h": count().over(hours(1)),
        "dep_delay_mean_1h": mean(col("dep_delay")).over(hours(1)),
        "late_share_1h": mean(col("dep_delay") > LATE).over(hours(1)),
    },
)
route_delay = FeatureView(
    "route_delay",
    entity=route,
    source=landings,
    owner="eta",
    description="How late flights on a route have been landing.",
    features={
        "flights_24h": count().over(hours(24)),
        "delay_mean_24h": mean(col("arr_delay")).over(hours(24)),
        "delay_mean_7d": mean(col("arr_delay")).over(days(7)),
        "late_share_7d": mean(col("arr_delay") > LATE).over(days(7)),
    },
)
tail_history = FeatureView(
    "tail_history",
    entity=tail,
    source=landings,
    owner="eta",
    ttl=days(7),
    description="Where the aeroplane's day went wrong before this flight.",
    features={
        "last_delay": last(col("arr_delay")),
        "last_landed_at": last(col("landed_at")),
        "minutes_since_landing": (query_time() - ref("last_landed_at")) / 60.0,
        "landings_24h": count().over(hours(24)),
        "delay_mean_24h": mean(col("arr_delay")).over(hours(24)),
    },
)
airport_weather = FeatureView(
    "airport_weather",
    entity=origin,
    source=weather,
    owner="eta",
    ttl=hours(6),
    description="The last weather report of the airport, unless it is stale.",
    features={
        "temp": last(col("temp")),
        "dewp": last(col("dewp")),
        "humid": last(col("humid")),
        "wind_speed": last(col("wind_speed")),
        "wind_gust": last(col("wind_gust")),
        "precip": last(col("precip")),
        "pressure": last(col("pressure")),
        "visib": last(col("visib")),
    },
)

leg = RequestView(
    "leg",
    request={
        "distance": float,
        "scheduled_minutes": float,
        "scheduled_hour": int,
        "scheduled_weekday": int,
    },
    description="What the timetable says; hour and weekday are local to the airport.",
    features={
        "distance": col("distance"),
        "scheduled_minutes": col("scheduled_minutes"),
        "pace": col("distance") / col("scheduled_minutes"),
        "hour": col("scheduled_hour"),
        "weekday": col("scheduled_weekday"),
    },
)
gate = RequestView(
    "gate",
    request={"dep_delay": float},
    description="How late the flight itself left, for those who know it.",
    features={"dep_delay": col("dep_delay")},
)

HISTORY: list[FeatureView | str] = [
    carrier_delay,
    origin_congestion,
    route_delay,
    "tail_history:last_delay",
    "tail_history:minutes_since_landing",
    "tail_history:landings_24h",
    "tail_history:delay_mean_24h",
    airport_weather,
]

arrival_delay = FeatureService(
    "arrival_delay",
    [*HISTORY, leg],
    clock="replay",
    owner="eta",
    description="History and timetable: what the served model reads.",
)
arrival_delay_with_dep_delay = FeatureService(
    "arrival_delay_with_dep_delay",
    [*HISTORY, leg, gate],
    clock="replay",
    owner="eta",
    description="The same where the flight's own departure delay is known.",
)
arrival_delay_request_only = FeatureService(
    "arrival_delay_request_only",
    [leg],
    clock="replay",
    owner="eta",
    description="The timetable alone: the baseline that history has to beat.",
)
arrival_delay_request_with_dep_delay = FeatureService(
    "arrival_delay_request_with_dep_delay",
    [leg, gate],
    clock="replay",
    owner="eta",
    description="Timetable and departure delay without history: the second baseline.",
)
