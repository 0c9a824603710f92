"""What the claims are about: clients, conditions, diagnoses and procedures.

Diagnosis codes are ICD-10-CM codes; procedure codes have the form of CPT codes. Prices, rates and names are invented.
"""

from dataclasses import dataclass
from datetime import date

FIRST_DAY = date(2024, 1, 1)
LAST_DAY = date(2025, 12, 31)
AS_OF = LAST_DAY
"""The day on which the books were closed: what would have been paid later is still pending."""

STATUSES = ("paid", "denied", "pending", "adjusted")


@dataclass(frozen=True)
class Client:
    """An employer whose health plan pays the claims."""

    id: int
    name: str
    industry: str
    share: float
    """Of all members, relative to the other clients."""
    cost_factor: float
    """Prices in the client's region, 1 being average."""
    coinsurance_points: int
    """What members pay of the allowed amount, in basis points (1500 is 15 %)."""


CLIENTS = (
    Client(101, "Alder Rail", "Transport", 14.0, 1.06, 1500),
    Client(102, "Beacon Schools", "Education", 12.5, 0.94, 1000),
    Client(103, "Cobalt Steel", "Manufacturing", 11.5, 1.10, 2000),
    Client(104, "Delta Grocers", "Retail", 11.0, 0.90, 2000),
    Client(105, "Evergreen Power", "Energy", 9.5, 1.15, 1000),
    Client(106, "Fjord Logistics", "Transport", 8.5, 0.97, 2000),
    Client(107, "Granite Builders", "Construction", 8.0, 1.08, 2500),
    Client(108, "Harbor Hotels", "Hospitality", 7.0, 0.88, 2500),
    Client(109, "Iris Software", "Technology", 6.5, 1.20, 1000),
    Client(110, "Juniper Foods", "Manufacturing", 5.0, 0.92, 2000),
    Client(111, "Kestrel Air", "Transport", 4.0, 1.12, 1500),
    Client(112, "Lumen Insurance", "Finance", 2.5, 1.03, 1000),
)


@dataclass(frozen=True)
class Procedure:
    """A billed service."""

    code: str
    title: str
    price: float
    """Typical billed amount in dollars."""
    denial_rate: float
    specialty: str
    copay_cents: int = 0


PROCEDURES = (
    Procedure("99213", "Office visit, short", 128, 0.022, "primary care", 2500),
    Procedure("99214", "Office visit, long", 192, 0.026, "primary care", 2500),
    Procedure("99396", "Preventive visit", 235, 0.014, "primary care"),
    Procedure("96372", "Injection", 54, 0.034, "primary care"),
    Procedure("99284", "Emergency visit", 1620, 0.058, "emergency", 15000),
    Procedure("80053", "Metabolic panel", 42, 0.020, "laboratory"),
    Procedure("83036", "HbA1c test", 36, 0.024, "laboratory"),
    Procedure("85025", "Blood count", 29, 0.018, "laboratory"),
    Procedure("93000", "Electrocardiogram", 68, 0.031, "cardiology"),
    Procedure("93306", "Echocardiogram", 1080, 0.067, "cardiology"),
    Procedure("92928", "Coronary stent", 33500, 0.051, "cardiology"),
    Procedure("71046", "Chest X-ray", 104, 0.027, "imaging"),
    Procedure("72148", "Spine MRI", 1480, 0.164, "imaging"),
    Procedure("73721", "Joint MRI", 1390, 0.149, "imaging"),
    Procedure("74177", "Abdominal CT", 1760, 0.112, "imaging"),
    Procedure("77067", "Mammogram", 310, 0.017, "imaging"),
    Procedure("97110", "Therapeutic exercise", 76, 0.128, "therapy", 2000),
    Procedure("97140", "Manual therapy", 70, 0.137, "therapy", 2000),
    Procedure("90834", "Psychotherapy, short", 138, 0.060, "behavioral health", 2500),
    Procedure("90837", "Psychotherapy, long", 182, 0.083, "behavioral health", 2500),
    Procedure("95810", "Sleep study", 2350, 0.187, "behavioral health"),
    Procedure("27447", "Knee replacement", 41200, 0.094, "surgery"),
    Procedure("29881", "Knee arthroscopy", 10400, 0.121, "surgery"),
    Procedure("47562", "Gallbladder surgery", 17600, 0.055, "surgery"),
    Procedure("44970", "Appendix surgery", 16900, 0.033, "surgery"),
    Procedure("12001", "Wound repair", 410, 0.029, "emergency", 5000),
    Procedure("96413", "Chemotherapy", 4650, 0.071, "oncology"),
    Procedure("77386", "Radiotherapy", 2890, 0.063, "oncology"),
    Procedure("90935", "Hemodialysis", 690, 0.026, "nephrology"),
)
SPECIALTIES = tuple(dict.fromkeys(procedure.specialty for procedure in PROCEDURES))
PROCEDURE_TITLES = {procedure.code: procedure.title for procedure in PROCEDURES}


@dataclass(frozen=True)
class Condition:
    """What a member is treated for: its diagnoses and procedures, with their relative weights."""

    name: str
    diagnoses: dict[str, float]
    procedures: dict[str, float]
    winter: float = 1.0
    """How much more often it is treated in January than in July."""


CHRONIC = (
    Condition(
        "diabetes",
        {"E11.9": 55, "E11.65": 30, "E11.22": 15},
        {"99213": 22, "99214": 30, "83036": 24, "80053": 17, "96372": 5, "99284": 2},
    ),
    Condition(
        "heart",
        {"I10": 62, "I25.10": 26, "I50.9": 12},
        {"99213": 24, "99214": 34, "93000": 18, "93306": 9, "80053": 11.2, "92928": 0.5, "99284": 3.3},
    ),
    Condition(
        "back and joints",
        {"M54.50": 58, "M25.561": 24, "M17.11": 18},
        {
            "99213": 21,
            "97110": 36,
            "97140": 24,
            "72148": 6,
            "73721": 4,
            "96372": 7.5,
            "29881": 0.9,
            "27447": 0.6,
        },
    ),
    Condition(
        "mental health",
        {"F41.1": 48, "F33.1": 34, "F32.A": 18},
        {"90834": 40, "90837": 38, "99213": 17.5, "95810": 2.5, "99284": 2},
    ),
    Condition(
        "cancer",
        {"C50.911": 46, "C61": 32, "C18.9": 22},
        {"99214": 30, "96413": 22, "77386": 18, "74177": 8, "85025": 22},
    ),
    Condition("kidney", {"N18.30": 58, "N18.6": 42}, {"99214": 28, "80053": 24, "85025": 14, "90935": 34}),
)
ACUTE = (
    Condition(
        "respiratory",
        {"J06.9": 46, "J20.9": 20, "J45.909": 18, "J10.1": 11, "J18.9": 5},
        {"99213": 58, "99214": 20, "71046": 12, "96372": 5, "99284": 5},
        winter=3.2,
    ),
    Condition("prevention", {"Z00.00": 78, "Z12.31": 22}, {"99396": 52, "80053": 17, "85025": 15, "77067": 16}),
    Condition("injury", {"S93.401A": 58, "S61.411A": 42}, {"99284": 26, "99213": 40, "12001": 22, "73721": 12}, 0.8),
    Condition(
        "digestive",
        {"K21.9": 72, "K80.20": 19, "K35.80": 9},
        {"99213": 60, "99214": 24, "74177": 9, "99284": 5.2, "47562": 1.2, "44970": 0.6},
    ),
)
ACUTE_WEIGHTS = (0.34, 0.28, 0.20, 0.18)
CONDITIONS = CHRONIC + ACUTE
CONDITION_OF_DIAGNOSIS = {code: condition.name for condition in CONDITIONS for code in condition.diagnoses}
